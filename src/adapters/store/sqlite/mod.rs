//! The embedded store: one SQLite file, one connection that writes and a few that read.
//!
//! Each port is implemented in a file of its own; this one holds what they share.

mod accounts;
mod bulk;
mod collect;
mod commands;
mod evaluate;
mod evaluation;
mod notify;
mod open;
mod operator;
mod options;
mod progress;
mod queries;
mod requests;
mod sweep;
#[cfg(test)]
mod tests;
mod topics;
pub(super) mod watch_commands;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::Transaction;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqlitePool};
use tokio::sync::watch;

use crate::adapters::store::{rows, views};
use crate::model::Partition;
use crate::pipeline::clock::Clock;
use crate::pipeline::store::StoreError;

pub use options::SqliteStoreOptions;

/// How often another process's writes are looked for.
const FOREIGN_POLL: Duration = Duration::from_millis(500);

/// The embedded store. Clones share one set of connections.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    options: SqliteStoreOptions,
    clock: Arc<dyn Clock>,
    /// One connection, lent in the order asked for, so that no writer starves another.
    writer: SqlitePool,
    readers: SqlitePool,
    /// Counts the commits that may have left changes for the evaluator.
    changes: watch::Sender<u64>,
    /// That count, per partition, when its changes were last read; set once it is known how
    /// many partitions there are.
    changes_read: OnceLock<Vec<AtomicU64>>,
    /// SQLite's `data_version` as the writer last saw it.
    data_version: AtomicU64,
}

/// A transaction that writes: nothing of it is in effect before `commit` has returned, and
/// dropping it undoes all. A cancelled `commit` may have committed.
type Write = Transaction<'static, Sqlite>;

impl SqliteStore {
    /// Begins a transaction that writes, when those asked for before it have ended.
    ///
    /// `BEGIN IMMEDIATE` takes the file's lock at once: a transaction that reads first and
    /// writes later would fail instead of waiting when another process wrote in between.
    async fn write(&self) -> Result<Write, StoreError> {
        match self.inner.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite undoes a transaction by itself when its disk is full, and sqlx then goes on
            // counting it as open: only a new connection helps.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.inner.writer.acquire().await?.close().await?;
                Ok(self.inner.writer.begin_with("BEGIN IMMEDIATE").await?)
            }
            other => Ok(other?),
        }
    }

    /// A connection to read with; it refuses writes. Statements see all that was committed
    /// before them; begin a transaction to see one instant with several.
    async fn read(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.inner.readers.acquire().await?)
    }

    /// How far a partition's changes were read, in the count of `changes`.
    fn changes_read(&self, partition: Partition) -> Option<&AtomicU64> {
        self.inner.changes_read.get()?.get(usize::try_from(partition.0).ok()?)
    }

    /// Wakes the evaluators: to be called after the commit of anything in `changes`.
    fn notify_changes(&self) {
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// A number that differs after another process has written to the file.
    async fn foreign_version(&self) -> Result<u64, StoreError> {
        // On the only connection with which this process writes, others' writes alone raise it.
        let found: i64 =
            sqlx::query_scalar("PRAGMA data_version").fetch_one(&self.inner.writer).await?;
        let found = found.cast_unsigned();
        if self.inner.data_version.swap(found, Ordering::Relaxed) != found {
            self.notify_changes();
        }
        Ok(found)
    }

    /// Closes the connections, each when what runs on it has ended.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}
