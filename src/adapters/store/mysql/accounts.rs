//! Accounts and sessions.

use async_trait::async_trait;
use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, padded};
use super::failure::is_duplicate;
use super::{Failure, MysqlStore, now_ms};
use crate::adapters::store::rows::{Cells, bytes, int, number};
use crate::adapters::store::views::{self, rank, role_text};
use crate::model::{Email, Timestamp, UserId};
use crate::pipeline::store::StoreError;
use crate::server::store::{Account, AccountStore, Opened, Role, Session};

pub(super) const ACCOUNT: &str =
    "SELECT id, email, role, password_hash FROM users WHERE email_folded = ?";
pub(super) const SESSION: &str = concat!(
    "SELECT u.id, u.email, u.role, s.expires_ms \
     FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token = ? AND s.expires_ms > ",
    now_ms!()
);
pub(super) const GENERATION: &str = "SELECT count FROM account_changes WHERE id = 1";
pub(super) const SESSIONS_OF: &str = concat!(
    "SELECT token, created_ms, ",
    now_ms!(),
    " FROM sessions WHERE user_id = ? ORDER BY created_ms DESC FOR UPDATE"
);

#[async_trait]
impl AccountStore for MysqlStore {
    async fn account(&self, email: &Email) -> Result<Option<Account>, StoreError> {
        let folded = email.folded().to_owned();
        let row = self.row(|| sqlx::query(ACCOUNT).bind(folded.clone())).await?;
        row.map(|row| views::account(&row)).transpose()
    }

    async fn open_session(
        &self,
        user: UserId,
        verified_hash: Option<&str>,
        token: [u8; 32],
        expires: Timestamp,
    ) -> Result<Opened, StoreError> {
        let opening = &Opening { user, verified_hash, token, expires };
        self.attempts(|unknown| self.insert_session(opening, unknown)).await
    }

    async fn session(&self, token: [u8; 32]) -> Result<Option<Session>, StoreError> {
        let row = self.row(|| sqlx::query(SESSION).bind(token.to_vec())).await?;
        row.map(|row| views::session(&row)).transpose()
    }

    async fn close_session(&self, token: [u8; 32]) -> Result<(), StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            let closed = sqlx::query("DELETE FROM sessions WHERE token = ?")
                .bind(&token[..])
                .execute(&mut *tx)
                .await?;
            if closed.rows_affected() == 0 {
                return tx.roll_back().await;
            }
            note_change(&mut tx).await?;
            tx.commit().await
        })
        .await
    }

    async fn put_account(
        &self,
        email: &Email,
        role: Option<Role>,
        password_hash: Option<&str>,
    ) -> Result<bool, StoreError> {
        self.attempts(|_| self.put(email, role, password_hash)).await
    }

    /// Raised by what ends sessions or changes roles, in this process as well: the row is
    /// written by nothing else.
    async fn generation(&self) -> Result<u64, StoreError> {
        self.row(|| sqlx::query(GENERATION)).await?.map_or(Ok(0), |row| number(&row, 0))
    }
}

/// A session that is to be opened.
struct Opening<'a> {
    user: UserId,
    verified_hash: Option<&'a str>,
    token: [u8; 32],
    expires: Timestamp,
}

impl MysqlStore {
    /// One attempt. After another whose end is unknown the token is there, if that one has
    /// committed: the account's row is waited for.
    async fn insert_session(
        &self,
        opening: &Opening<'_>,
        unknown: bool,
    ) -> Result<Opened, Failure> {
        const CLOSE: Bulk = Bulk {
            head: "DELETE FROM sessions WHERE token IN (",
            row: "?",
            between: ",",
            tail: ")",
        };
        let mut tx = self.begin().await?;
        let account = sqlx::query("SELECT id, password_hash FROM users WHERE id = ? FOR UPDATE")
            .bind(opening.user.0)
            .fetch_optional(&mut *tx)
            .await?;
        // An account deleted meanwhile gets none, and none is had by a password that was changed
        // since it was verified.
        let verified = match &account {
            Some(row) => row.text(1)? == opening.verified_hash,
            None => false,
        };
        if !verified {
            tx.roll_back().await?;
            return Ok(Opened::Refused);
        }
        let sessions = sqlx::query(SESSIONS_OF).bind(opening.user.0).fetch_all(&mut *tx).await?;
        // Later than the account's others even if the clock was set back: the newest is never
        // the one to be closed.
        let mut latest = i64::MIN;
        let mut tokens = Vec::with_capacity(sessions.len());
        for row in &sessions {
            latest = latest.max(int(row, 1)?);
            tokens.push(bytes(row, 0)?.to_vec());
        }
        if unknown && tokens.iter().any(|token| token[..] == opening.token) {
            tx.roll_back().await?;
            return Ok(Opened::ClosedOthers);
        }
        let kept = self.inner.options.sessions_per_account_max.max(1) - 1;
        let closed = tokens.split_off(tokens.len().min(usize::try_from(kept).unwrap_or(0)));
        for piece in padded(&closed) {
            let close = CLOSE.of(piece.len());
            let close = piece.into_iter().fold(close, |query, token| query.bind(token.clone()));
            close.execute(&mut *tx).await?;
        }
        sqlx::query(concat!(
            "INSERT INTO sessions (token, user_id, created_ms, expires_ms) \
             VALUES (?, ?, GREATEST(?, ",
            now_ms!(),
            "), ?)"
        ))
        .bind(&opening.token[..])
        .bind(opening.user.0)
        .bind(latest.saturating_add(1))
        .bind(opening.expires.millis())
        .execute(&mut *tx)
        .await?;
        if closed.is_empty() {
            tx.commit().await?;
            return Ok(Opened::Alone);
        }
        note_change(&mut tx).await?;
        tx.commit().await?;
        Ok(Opened::ClosedOthers)
    }

    async fn put(
        &self,
        email: &Email,
        role: Option<Role>,
        password_hash: Option<&str>,
    ) -> Result<bool, Failure> {
        let mut tx = self.begin().await?;
        let found = sqlx::query("SELECT id, role FROM users WHERE email_folded = ? FOR UPDATE")
            .bind(email.folded())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = found else {
            let inserted = sqlx::query(concat!(
                "INSERT INTO users (email, email_folded, role, password_hash, created_ms) \
                 VALUES (?, ?, ?, ?, ",
                now_ms!(),
                ")"
            ))
            .bind(email.as_str())
            .bind(email.folded())
            .bind(role_text(role.unwrap_or(Role::User)))
            .bind(password_hash)
            .execute(&mut *tx)
            .await;
            if let Err(error) = inserted {
                if is_duplicate(&error) {
                    return Err(Failure::Again("the account was just made".to_owned()));
                }
                return Err(error.into());
            }
            tx.commit().await?;
            return Ok(true);
        };
        let (id, before) = (int(&row, 0)?, views::role(&row, 1)?);
        sqlx::query(
            "UPDATE users SET role = COALESCE(?, role), \
             password_hash = COALESCE(?, password_hash) WHERE id = ?",
        )
        .bind(role.map(role_text))
        .bind(password_hash)
        .bind(id)
        .execute(&mut *tx)
        .await?;
        // A token that somebody has got hold of must not come to more than it was.
        if role.is_some_and(|role| rank(role) > rank(before)) || password_hash.is_some() {
            sqlx::query("DELETE FROM sessions WHERE user_id = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        note_change(&mut tx).await?;
        tx.commit().await?;
        Ok(false)
    }
}

/// Lets every process void what it remembers of accounts and sessions. The last statement of its
/// transaction, because others may wait for the row.
pub(super) async fn note_change(tx: &mut MySqlConnection) -> Result<(), Failure> {
    sqlx::query("UPDATE account_changes SET count = count + 1 WHERE id = 1").execute(tx).await?;
    Ok(())
}
