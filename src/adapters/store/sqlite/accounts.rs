//! Accounts and sessions.

use async_trait::async_trait;

use super::SqliteStore;
use super::views::{self, rank, role_text};
use crate::model::{Email, Timestamp, UserId};
use crate::pipeline::store::StoreError;
use crate::server::store::{Account, AccountStore, Opened, Role, Session};

#[async_trait]
impl AccountStore for SqliteStore {
    async fn account(&self, email: &Email) -> Result<Option<Account>, StoreError> {
        let mut connection = self.read().await?;
        let row =
            sqlx::query("SELECT id, email, role, password_hash FROM users WHERE email_folded = ?")
                .bind(email.folded())
                .fetch_optional(&mut *connection)
                .await?;
        row.map(|row| views::account(&row)).transpose()
    }

    async fn open_session(
        &self,
        user: UserId,
        verified_hash: Option<&str>,
        token: [u8; 32],
        expires: Timestamp,
    ) -> Result<Opened, StoreError> {
        let mut tx = self.write().await?;
        // Later than the account's others even if the clock was set back: the newest is never
        // the one to be closed. An account deleted meanwhile gets none, and none is had by a
        // password that was changed since it was verified.
        let inserted = sqlx::query(
            "INSERT INTO sessions (token, user_id, created_ms, expires_ms)
             SELECT ?1, u.id, MAX(?2, 1 + COALESCE(
                        (SELECT MAX(created_ms) FROM sessions WHERE user_id = u.id), 0)), ?3
             FROM users u WHERE u.id = ?4 AND u.password_hash IS ?5",
        )
        .bind(&token[..])
        .bind(self.inner.clock.now().millis())
        .bind(expires.millis())
        .bind(user.0)
        .bind(verified_hash)
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Ok(Opened::Refused);
        }
        let closed = sqlx::query(
            "DELETE FROM sessions WHERE token IN (
                 SELECT token FROM sessions WHERE user_id = ?
                 ORDER BY created_ms DESC LIMIT -1 OFFSET ?)",
        )
        .bind(user.0)
        .bind(self.inner.options.sessions_per_account_max.max(1))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(if closed.rows_affected() == 0 { Opened::Alone } else { Opened::ClosedOthers })
    }

    async fn session(&self, token: [u8; 32]) -> Result<Option<Session>, StoreError> {
        let mut connection = self.read().await?;
        let row = sqlx::query(
            "SELECT u.id, u.email, u.role, s.expires_ms
             FROM sessions s JOIN users u ON u.id = s.user_id
             WHERE s.token = ? AND s.expires_ms > ?",
        )
        .bind(&token[..])
        .bind(self.inner.clock.now().millis())
        .fetch_optional(&mut *connection)
        .await?;
        row.map(|row| views::session(&row)).transpose()
    }

    async fn close_session(&self, token: [u8; 32]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM sessions WHERE token = ?")
            .bind(&token[..])
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn put_account(
        &self,
        email: &Email,
        role: Option<Role>,
        password_hash: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        // A token that somebody has got hold of must not come to more than it was.
        let raised = match role {
            Some(role) => sqlx::query("SELECT role FROM users WHERE email_folded = ?")
                .bind(email.folded())
                .fetch_optional(&mut *tx)
                .await?
                .map(|row| views::role(&row, 0))
                .transpose()?
                .is_some_and(|before| rank(role) > rank(before)),
            None => false,
        };
        let created = sqlx::query(
            "INSERT INTO users (email, email_folded, role, password_hash, created_ms)
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (email_folded) DO NOTHING",
        )
        .bind(email.as_str())
        .bind(email.folded())
        .bind(role_text(role.unwrap_or(Role::User)))
        .bind(password_hash)
        .bind(self.inner.clock.now().millis())
        .execute(&mut *tx)
        .await?
        .rows_affected()
            == 1;
        if !created {
            sqlx::query(
                "UPDATE users SET role = COALESCE(?, role),
                                  password_hash = COALESCE(?, password_hash)
                 WHERE email_folded = ?",
            )
            .bind(role.map(role_text))
            .bind(password_hash)
            .bind(email.folded())
            .execute(&mut *tx)
            .await?;
        }
        if raised || password_hash.is_some() {
            sqlx::query(
                "DELETE FROM sessions
                 WHERE user_id = (SELECT id FROM users WHERE email_folded = ?)",
            )
            .bind(email.folded())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(created)
    }

    /// Raised by whatever another process writes into the file, and not by what this one does.
    /// It is asked on the connection that writes, so it waits for the transaction under way.
    async fn generation(&self) -> Result<u64, StoreError> {
        self.foreign_version().await
    }
}
