//! A connection that is lent for one transaction, and goes back in a state that is known.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::MySqlConnection;

use super::MysqlStore;
use super::failure::Failure;
use super::pool::{Held, Mode, Pool};

/// How long a connection whose user went away has for undoing what it began.
const UNDO_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection out of the pool. Dropping it undoes what was begun on it.
pub(crate) struct Lent {
    held: Option<Held>,
    pool: Arc<Pool>,
}

impl MysqlStore {
    /// A connection to read with: each statement sees all that was committed before it.
    pub(crate) async fn read(&self) -> Result<Lent, Failure> {
        self.lend(Mode::Single).await
    }

    /// A connection on which the first statement begins a transaction. Its statements see what was
    /// committed before each of them (READ COMMITTED); what decides is read with `FOR UPDATE`.
    pub(crate) async fn begin(&self) -> Result<Lent, Failure> {
        self.lend(Mode::Transaction).await
    }

    async fn lend(&self, mode: Mode) -> Result<Lent, Failure> {
        let pool = self.inner.pool.clone();
        Ok(Lent { held: Some(pool.take(mode).await?), pool })
    }
}

impl Lent {
    /// Gives the connection back; to be called when nothing is under way on it.
    pub(crate) fn give_back(mut self) {
        if let Some(held) = self.held.take() {
            self.pool.give_back(held);
        }
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
                // Closed without a word; the server undoes what is open on it.
                drop(self.held.take());
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
}

impl Deref for Lent {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        let held = self.held.as_ref().expect("it is taken by what consumes the whole only");
        &held.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        let held = self.held.as_mut().expect("it is taken by what consumes the whole only");
        &mut held.connection
    }
}

impl Drop for Lent {
    /// A statement may be under way, and the server may not answer any more: the connection goes
    /// back only if undoing ends in time. Otherwise, and where a runtime stops meanwhile, it is
    /// closed, which undoes it as well.
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let pool = self.pool.clone();
        runtime.spawn(async move {
            let undo = sqlx::raw_sql("ROLLBACK").execute(&mut held.connection);
            if let Ok(Ok(_)) = tokio::time::timeout(UNDO_TIMEOUT, undo).await {
                pool.give_back(held);
            }
        });
    }
}
