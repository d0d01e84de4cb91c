//! Commands: each is one transaction, together with the record of its request.

use async_trait::async_trait;
use sqlx::mysql::MySqlConnection;
use uuid::Uuid;

use super::failure::is_duplicate;
use super::requests::{add_record, find_record, settled_record};
use super::{Failure, MysqlStore, import, now_ms};
use crate::adapters::store::rows::{int, signed};
use crate::adapters::store::to_the_end;
use crate::adapters::store::views::role_text;
use crate::failpoint;
use crate::model::{Email, UserId, WatchSpec};
use crate::pipeline::store::StoreError;
use crate::server::store::{
    Command, CommandStore, Recorded, Refusal, Reply, Request, RequestKey, Role, WatchView,
    password_mark,
};

#[async_trait]
impl CommandStore for MysqlStore {
    async fn execute(
        &self,
        request: Option<&Request>,
        command: &Command,
    ) -> Result<Recorded, StoreError> {
        let (store, command) = (self.clone(), command.clone());
        let request = request.cloned().unwrap_or_else(unrepeated);
        to_the_end(async move {
            let (store, request, command) = (&store, &request, &command);
            let recorded =
                store.attempts(|unknown| store.carry_out(request, command, unknown)).await?;
            store.inner.changes.send_modify(|count| *count += 1);
            Ok(recorded)
        })
        .await
    }

    async fn record(&self, request: &Request, reply: &Reply) -> Result<Recorded, StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            match add_record(&mut tx, request, reply.clone()).await? {
                Some(recorded) => {
                    tx.commit().await?;
                    Ok(recorded)
                }
                None => {
                    tx.roll_back().await?;
                    self.first_answer(&request.key).await
                }
            }
        })
        .await
    }

    async fn recorded(&self, key: &RequestKey) -> Result<Option<Recorded>, StoreError> {
        self.attempts(|_| async move {
            let mut connection = self.read().await?;
            let found = find_record(&mut connection, key).await?;
            connection.give_back();
            Ok(found)
        })
        .await
    }

    async fn import(
        &self,
        content: [u8; 32],
        watches: &[(Email, WatchSpec)],
    ) -> Result<Option<u64>, StoreError> {
        let (store, watches) = (self.clone(), watches.to_vec());
        to_the_end(async move {
            let (store, watches) = (&store, &watches[..]);
            let loaded = store
                .attempts_within(import::LIMIT, |unknown| {
                    import::load(store, content, watches, unknown)
                })
                .await?;
            store.inner.changes.send_modify(|count| *count += 1);
            Ok(loaded)
        })
        .await
    }
}

/// A command that nobody repeats is recorded as well: it is how its commit is looked up.
fn unrepeated() -> Request {
    let key = RequestKey { caller: String::new(), id: Uuid::new_v4().to_string() };
    Request { key, method: String::new(), fingerprint: [0; 32] }
}

impl MysqlStore {
    /// One attempt. The record goes in last, and undoes all if there is one already: a request
    /// that is new, as nearly all are, is not looked for. After an attempt whose end is unknown
    /// it is: whatever that one did, its record was locked by then.
    async fn carry_out(
        &self,
        request: &Request,
        command: &Command,
        unknown: bool,
    ) -> Result<Recorded, Failure> {
        let mut tx = self.begin().await?;
        if unknown && let Some(recorded) = settled_record(&mut tx, &request.key).await? {
            tx.roll_back().await?;
            return Ok(recorded);
        }
        let mut work = Work { tx: &mut tx, store: self, view: None };
        let reply = match work.run(command).await? {
            Ok(reply) => reply,
            Err(refusal) => Reply::Refused(refusal),
        };
        let view = work.view;
        let Some(recorded) = add_record(&mut tx, request, reply).await? else {
            tx.roll_back().await?;
            return self.first_answer(&request.key).await;
        };
        failpoint::hit("command/before-commit");
        tx.commit().await?;
        failpoint::hit("command/after-commit");
        Ok(Recorded { view, ..recorded })
    }

    /// The answer of a request that somebody else has recorded.
    async fn first_answer(&self, key: &RequestKey) -> Result<Recorded, Failure> {
        let mut connection = self.read().await?;
        let found = find_record(&mut connection, key).await?;
        connection.give_back();
        found.ok_or_else(|| Failure::Again("the record of a request was undone".to_owned()))
    }
}

/// A transaction in which a command is carried out.
pub(super) struct Work<'a> {
    pub(super) tx: &'a mut MySqlConnection,
    pub(super) store: &'a MysqlStore,
    /// The watch that it changed, as it left it.
    pub(super) view: Option<WatchView>,
}

/// What a command did, or why it did nothing. A refusal is decided before the first write,
/// because it is recorded and the transaction commits.
pub(super) type Done = Result<Result<Reply, Refusal>, Failure>;

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
        let inserted = sqlx::query(concat!(
            "INSERT INTO users (email, email_folded, role, password_hash, created_ms) \
             VALUES (?, ?, ?, ?, ",
            now_ms!(),
            ")"
        ))
        .bind(email.as_str())
        .bind(email.folded())
        .bind(role_text(Role::User))
        .bind(password_hash)
        .execute(&mut *self.tx)
        .await;
        let user = match inserted {
            Ok(inserted) => inserted.last_insert_id(),
            Err(error) if is_duplicate(&error) => return Ok(Err(Refusal::EmailTaken)),
            Err(error) => return Err(error.into()),
        };
        let user = u32::try_from(user).map_err(|_| {
            StoreError::Permanent("there are more accounts than ids of 32 bits".to_owned())
        })?;
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
        // No token is as short as the one that stands for none.
        sqlx::query("DELETE FROM sessions WHERE user_id = ? AND token <> ?")
            .bind(user.0)
            .bind(keep.map_or(&[][..], |token| &token[..]))
            .execute(&mut *self.tx)
            .await?;
        self.note_accounts().await?;
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
        self.remove_watches(user, None).await?;
        // After the watches are locked, as where one of them is deleted. Who claimed one stays
        // recorded: that attempt may still arrive, and is settled then.
        sqlx::query(concat!(
            "UPDATE deliveries SET state = 'cancelled', reason = 'user', changed_ms = ",
            now_ms!(),
            " WHERE user_id = ? AND state IN ('pending', 'claimed')"
        ))
        .bind(user.0)
        .execute(&mut *self.tx)
        .await?;
        self.note_accounts().await?;
        Ok(Ok(Reply::Done))
    }

    /// The locks are taken in the order in which a deletion takes them: account, watch,
    /// delivery. So none of the first two goes away unseen.
    async fn retry_delivery(&mut self, id: u64) -> Done {
        let found = sqlx::query(
            "SELECT user_id, watch_id FROM deliveries WHERE alert_id = ? AND state = 'dead'",
        )
        .bind(signed(id))
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = found else {
            return Ok(Err(Refusal::UnknownDeadLetter));
        };
        for (statement, key, missing) in [
            ("SELECT id FROM users WHERE id = ? LOCK IN SHARE MODE", 0, Refusal::UnknownUser),
            ("SELECT id FROM watches WHERE id = ? LOCK IN SHARE MODE", 1, Refusal::UnknownWatch),
        ] {
            let key = int(&row, key)?;
            let held = sqlx::query(statement).bind(key).fetch_optional(&mut *self.tx).await?;
            if held.is_none() {
                return Ok(Err(missing));
            }
        }
        let retried = sqlx::query(concat!(
            "UPDATE deliveries SET state = 'pending', due_ms = ",
            now_ms!(),
            ", attempts = 0, owner = NULL, lease_until_ms = NULL, reason = NULL, changed_ms = ",
            now_ms!(),
            " WHERE alert_id = ? AND state = 'dead'"
        ))
        .bind(signed(id))
        .execute(&mut *self.tx)
        .await?;
        if retried.rows_affected() == 0 {
            return Ok(Err(Refusal::UnknownDeadLetter));
        }
        Ok(Ok(Reply::Done))
    }

    async fn remove_dead_record(&mut self, id: u64) -> Done {
        let removed = sqlx::query("DELETE FROM dead_records WHERE id = ?")
            .bind(signed(id))
            .execute(&mut *self.tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Ok(Err(Refusal::UnknownDeadLetter));
        }
        Ok(Ok(Reply::Done))
    }

    /// Whether there is such an account, which then stays until the commit, and to which nobody
    /// else adds a watch meanwhile.
    pub(super) async fn hold_user(&mut self, user: UserId) -> Result<bool, Failure> {
        let found = sqlx::query("SELECT id FROM users WHERE id = ? FOR UPDATE")
            .bind(user.0)
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(found.is_some())
    }

    async fn note_accounts(&mut self) -> Result<(), Failure> {
        super::accounts::note_change(self.tx).await
    }
}
