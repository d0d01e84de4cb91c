//! The store on a MySQL or MariaDB server, which several processes share.
//!
//! Each port is implemented in a file of its own; this one holds what they share. Statements are
//! in the common subset of MySQL 8.4 and MariaDB 10.11. Times that claims and leases rest on are
//! the server's.

mod failure;
mod lent;
mod open;
mod options;
mod retry;

use std::sync::Arc;

use sqlx::mysql::MySqlPool;

use crate::adapters::store::sqlite::SqliteStoreOptions;
use crate::pipeline::clock::Clock;

pub(crate) use failure::Failure;
pub use options::MysqlOptions;

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
    pool: MySqlPool,
    /// The distance of two ids that one statement gives out.
    id_step: i64,
}

impl MysqlStore {
    /// Closes the connections, each when what runs on it has ended.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }
}
