//! A connection that is lent for one transaction, and goes back in a state that is known.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::pool::PoolConnection;

use super::MysqlStore;
use super::failure::Failure;

/// How long a connection whose user went away has for undoing what it began.
const UNDO_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection out of the pool. Dropping it undoes what was begun on it.
pub(crate) struct Lent(Option<PoolConnection<MySql>>);

impl MysqlStore {
    /// A connection to read with: each statement sees all that was committed before it.
    pub(crate) async fn read(&self) -> Result<Lent, Failure> {
        Ok(Lent(Some(self.inner.pool.acquire().await?)))
    }

    /// Begins a transaction. Its statements see what was committed before each of them (READ
    /// COMMITTED); what decides is read with `FOR UPDATE`.
    pub(crate) async fn begin(&self) -> Result<Lent, Failure> {
        let mut lent = self.read().await?;
        sqlx::raw_sql("START TRANSACTION").execute(&mut *lent).await?;
        Ok(lent)
    }
}

impl Lent {
    /// Gives the connection back; to be called when nothing is under way on it.
    pub(crate) fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Commits. A failure leaves it open whether that happened, unless it says otherwise.
    pub(crate) async fn commit(mut self) -> Result<(), Failure> {
        let committed = sqlx::raw_sql("COMMIT").execute(&mut *self).await;
        match committed {
            Ok(_) => {
                self.give_back();
                Ok(())
            }
            Err(error) => {
                self.abandon();
                Err(Failure::of_commit(error))
            }
        }
    }

    /// Undoes what was begun.
    pub(crate) async fn roll_back(mut self) -> Result<(), Failure> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self).await?;
        self.give_back();
        Ok(())
    }

    /// Closes the connection without a word; the server undoes what is open on it.
    fn abandon(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

impl Deref for Lent {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        self.0.as_ref().expect("it is taken by what consumes the whole only")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        self.0.as_mut().expect("it is taken by what consumes the whole only")
    }
}

impl Drop for Lent {
    /// A statement may be under way, and the server may not answer any more: the pool would
    /// wait for it, so it gets the connection back only if undoing ends in time.
    fn drop(&mut self) {
        let Some(connection) = self.0.take() else { return };
        let mut undone = Undone(Some(connection));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let Some(connection) = &mut undone.0 else { return };
            let undo = sqlx::raw_sql("ROLLBACK").execute(&mut **connection);
            if let Ok(Ok(_)) = tokio::time::timeout(UNDO_TIMEOUT, undo).await {
                drop(undone.0.take());
            }
        });
    }
}

/// A connection on which something is to be undone. Dropping it closes it, which undoes it, too:
/// so it may be dropped anywhere, also by a runtime that stops.
struct Undone(Option<PoolConnection<MySql>>);

impl Drop for Undone {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}
