//! The store on a MySQL or MariaDB server, which several processes share.
//!
//! Each port is implemented in a file of its own; this one holds what they share. Statements are
//! in the common subset of MySQL 8.4 and MariaDB 10.11. Times that claims and leases rest on are
//! the server's.

mod accounts;
mod bulk;
mod collect;
mod commands;
mod counts;
mod deliveries;
mod evaluate;
mod evaluation;
mod failure;
mod grow;
mod import;
mod lent;
mod members;
mod notify;
mod open;
mod operator;
mod options;
mod pool;
mod progress;
mod queries;
mod requests;
mod retry;
mod settlements;
mod sweep;
mod topics;
mod watch_commands;

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::adapters::store::sqlite::SqliteStoreOptions;
use crate::model::Partition;
use crate::pipeline::clock::Clock;

pub(crate) use failure::Failure;
pub use grow::Growth;
pub(crate) use open::connect_options;
pub use options::MysqlOptions;
use pool::Pool;

/// The present instant by the server's clock, in milliseconds: an SQL expression.
macro_rules! now_ms {
    () => {
        "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
    };
}
pub(crate) use now_ms;

/// The store on a server. Clones share one pool of connections.
#[derive(Clone)]
pub struct MysqlStore {
    inner: Arc<Inner>,
}

struct Inner {
    mysql: MysqlOptions,
    options: SqliteStoreOptions,
    /// For waiting only: what is compared with stored times is the server's clock.
    clock: Arc<dyn Clock>,
    pool: Arc<Pool>,
    /// The distance of two ids that one statement gives out.
    id_step: i64,
    /// How many partitions there are; 0 until that is known.
    partitions: AtomicU32,
    /// Counts the commits of this process that may have left changes for the evaluator.
    changes: watch::Sender<u64>,
    /// That count, per partition, when its changes were last read.
    changes_read: Mutex<HashMap<Partition, u64>>,
}

impl MysqlStore {
    fn changes_read(&self) -> MutexGuard<'_, HashMap<Partition, u64>> {
        self.inner.changes_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connections, each when what runs on it has ended.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }
}
