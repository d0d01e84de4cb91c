//! Commands: each is one transaction, together with the record of its request.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::bulk::Bulk;
use super::requests::{add_record, find_record};
use super::views::role_text;
use super::{SqliteStore, rows};
use crate::adapters::store::to_the_end;
use crate::failpoint;
use crate::model::{Email, UserId, WatchSpec};
use crate::pipeline::store::StoreError;
use crate::server::store::{
    Command, CommandStore, Recorded, Refusal, Reply, Request, RequestKey, Role, password_mark,
};

#[async_trait]
impl CommandStore for SqliteStore {
    async fn execute(
        &self,
        request: Option<&Request>,
        command: &Command,
    ) -> Result<Recorded, StoreError> {
        let (store, request, command) = (self.clone(), request.cloned(), command.clone());
        to_the_end(async move { store.carry_out(request.as_ref(), &command).await }).await
    }

    async fn record(&self, request: &Request, reply: &Reply) -> Result<Recorded, StoreError> {
        let mut tx = self.write().await?;
        if let Some(recorded) = find_record(&mut tx, &request.key).await? {
            return Ok(recorded);
        }
        let now_ms = self.inner.clock.now().millis();
        let recorded = add_record(&mut tx, request, reply.clone(), now_ms).await?;
        tx.commit().await?;
        Ok(recorded)
    }

    async fn recorded(&self, key: &RequestKey) -> Result<Option<Recorded>, StoreError> {
        let mut connection = self.read().await?;
        find_record(&mut connection, key).await
    }

    async fn import(
        &self,
        content: [u8; 32],
        watches: &[(Email, WatchSpec)],
    ) -> Result<Option<u64>, StoreError> {
        let (store, watches) = (self.clone(), watches.to_vec());
        to_the_end(async move { store.load(content, &watches).await }).await
    }
}

impl SqliteStore {
    async fn carry_out(
        &self,
        request: Option<&Request>,
        command: &Command,
    ) -> Result<Recorded, StoreError> {
        let mut tx = self.write().await?;
        if let Some(request) = request
            && let Some(recorded) = find_record(&mut tx, &request.key).await?
        {
            return Ok(recorded);
        }
        let now_ms = self.inner.clock.now().millis();
        let mut work = Work { tx: &mut tx, store: self, now_ms };
        let reply = match work.run(command).await? {
            Ok(reply) => reply,
            Err(refusal) => Reply::Refused(refusal),
        };
        let recorded = match request {
            Some(request) => add_record(&mut tx, request, reply, now_ms).await?,
            None => Recorded { fingerprint: [0; 32], reply, again: false, view: None },
        };
        failpoint::hit("command/before-commit");
        tx.commit().await?;
        failpoint::hit("command/after-commit");
        self.notify_changes();
        Ok(recorded)
    }

    async fn load(
        &self,
        content: [u8; 32],
        watches: &[(Email, WatchSpec)],
    ) -> Result<Option<u64>, StoreError> {
        let mut tx = self.write().await?;
        let now_ms = self.inner.clock.now().millis();
        let first = sqlx::query(
            "INSERT INTO imports (content, imported_ms) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&content[..])
        .bind(now_ms)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if first == 0 {
            return Ok(None);
        }
        let users = import_users(&mut tx, watches, now_ms).await?;
        let owned: Vec<(UserId, WatchSpec)> = watches
            .iter()
            .filter_map(|(email, spec)| Some((*users.get(email.folded())?, *spec)))
            .collect();
        Work { tx: &mut tx, store: self, now_ms }.insert_watches(&owned).await?;
        tx.commit().await?;
        self.notify_changes();
        Ok(Some(owned.len() as u64))
    }
}

/// Makes sure that every address has an account; returns the accounts by folded address.
async fn import_users(
    tx: &mut SqliteConnection,
    watches: &[(Email, WatchSpec)],
    now_ms: i64,
) -> Result<HashMap<String, UserId>, StoreError> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO users (email, email_folded, role, created_ms) VALUES",
        row: "(?, ?, 'user', ?)",
        tail: "ON CONFLICT (email_folded) DO NOTHING",
    };
    let mut seen = HashSet::new();
    let emails: Vec<&Email> = watches
        .iter()
        .map(|(email, _)| email)
        .filter(|email| seen.insert(email.folded()))
        .collect();
    INSERT
        .execute(tx, &emails, |query, email| {
            query.bind(email.as_str()).bind(email.folded()).bind(now_ms)
        })
        .await?;
    let folded: Vec<&str> = emails.iter().map(|email| email.folded()).collect();
    let found = sqlx::query(
        "SELECT u.email_folded, u.id FROM json_each(?) i CROSS JOIN users u
             ON u.email_folded = i.value",
    )
    .bind(serde_json::json!(folded).to_string())
    .fetch_all(tx)
    .await?;
    found.iter().map(|row| Ok((row.try_get(0)?, UserId(row.try_get(1)?)))).collect()
}

/// A transaction in which a command is carried out.
pub(super) struct Work<'a> {
    pub(super) tx: &'a mut SqliteConnection,
    pub(super) store: &'a SqliteStore,
    pub(super) now_ms: i64,
}

/// What a command did, or why it did nothing. A refusal is decided before the first write,
/// because it is recorded and the transaction commits.
pub(super) type Done = Result<Result<Reply, Refusal>, StoreError>;

impl Work<'_> {
    async fn run(&mut self, command: &Command) -> Done {
        match command {
            Command::Register { email, password_hash, watch } => {
                self.register(email, password_hash, watch.as_ref()).await
            }
            Command::SetPassword { user, password_hash, keep } => {
                self.set_password(*user, password_hash, keep.as_ref()).await
            }
            Command::DeleteUser { user } => self.delete_user(*user).await,
            Command::CreateWatch { user, spec } => self.create_watch(*user, spec).await,
            Command::ChangeWatch { user, watch, patch, or_create } => {
                self.change_watch(*user, *watch, patch, or_create.as_ref()).await
            }
            Command::DeleteWatch { user, watch } => self.delete_watch(*user, *watch).await,
            Command::ResetSymbol { symbol } => self.reset_symbol(*symbol).await,
            Command::RetryDelivery { id } => self.retry_delivery(*id).await,
            Command::RemoveDeadRecord { id } => self.remove_dead_record(*id).await,
        }
    }

    async fn register(
        &mut self,
        email: &Email,
        password_hash: &str,
        watch: Option<&WatchSpec>,
    ) -> Done {
        let created: Option<u32> = sqlx::query_scalar(
            "INSERT INTO users (email, email_folded, role, password_hash, created_ms)
             VALUES (?, ?, ?, ?, ?) ON CONFLICT (email_folded) DO NOTHING RETURNING id",
        )
        .bind(email.as_str())
        .bind(email.folded())
        .bind(role_text(Role::User))
        .bind(password_hash)
        .bind(self.now_ms)
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(user) = created else {
            return Ok(Err(Refusal::EmailTaken));
        };
        if let Some(spec) = watch {
            self.insert_watches(&[(UserId(user), *spec)]).await?;
        }
        Ok(Ok(Reply::Registered { user, password: Some(password_mark(password_hash)) }))
    }

    async fn set_password(
        &mut self,
        user: UserId,
        password_hash: &str,
        keep: Option<&[u8; 32]>,
    ) -> Done {
        let changed = sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?")
            .bind(password_hash)
            .bind(user.0)
            .execute(&mut *self.tx)
            .await?;
        if changed.rows_affected() == 0 {
            return Ok(Err(Refusal::UnknownUser));
        }
        sqlx::query("DELETE FROM sessions WHERE user_id = ? AND token IS NOT ?")
            .bind(user.0)
            .bind(keep.map(|token| &token[..]))
            .execute(&mut *self.tx)
            .await?;
        Ok(Ok(Reply::Done))
    }

    async fn delete_user(&mut self, user: UserId) -> Done {
        let deleted = sqlx::query("DELETE FROM users WHERE id = ?")
            .bind(user.0)
            .execute(&mut *self.tx)
            .await?;
        if deleted.rows_affected() == 0 {
            return Ok(Err(Refusal::UnknownUser));
        }
        sqlx::query("DELETE FROM sessions WHERE user_id = ?")
            .bind(user.0)
            .execute(&mut *self.tx)
            .await?;
        // Who claimed one stays recorded: that attempt may still arrive, and is settled then.
        sqlx::query(
            "UPDATE deliveries SET state = 'cancelled', reason = 'user', changed_ms = ?
             WHERE user_id = ? AND state IN ('pending', 'claimed')",
        )
        .bind(self.now_ms)
        .bind(user.0)
        .execute(&mut *self.tx)
        .await?;
        self.remove_watches(user, None).await?;
        Ok(Ok(Reply::Done))
    }

    async fn retry_delivery(&mut self, id: u64) -> Done {
        let found = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM users u WHERE u.id = d.user_id),
                    EXISTS (SELECT 1 FROM watches w WHERE w.id = d.watch_id)
             FROM deliveries d WHERE d.alert_id = ? AND d.state = 'dead'",
        )
        .bind(rows::signed(id))
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = found else {
            return Ok(Err(Refusal::UnknownDeadLetter));
        };
        if !row.try_get::<bool, _>(0)? {
            return Ok(Err(Refusal::UnknownUser));
        }
        if !row.try_get::<bool, _>(1)? {
            return Ok(Err(Refusal::UnknownWatch));
        }
        sqlx::query(
            "UPDATE deliveries SET state = 'pending', due_ms = ?1, attempts = 0, owner = NULL,
                    lease_until_ms = NULL, reason = NULL, changed_ms = ?1
             WHERE alert_id = ?2",
        )
        .bind(self.now_ms)
        .bind(rows::signed(id))
        .execute(&mut *self.tx)
        .await?;
        Ok(Ok(Reply::Done))
    }

    async fn remove_dead_record(&mut self, id: u64) -> Done {
        let removed = sqlx::query("DELETE FROM dead_records WHERE id = ?")
            .bind(rows::signed(id))
            .execute(&mut *self.tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Ok(Err(Refusal::UnknownDeadLetter));
        }
        Ok(Ok(Reply::Done))
    }

    pub(super) async fn user_exists(&mut self, user: UserId) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE id = ?)")
            .bind(user.0)
            .fetch_one(&mut *self.tx)
            .await?)
    }
}
