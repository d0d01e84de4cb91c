//! Connections to the server: as many as are allowed, the one used last first.
//!
//! sqlx's own pool asks the server for a sign of life whenever a connection comes back. Here one
//! comes back in a known state or not at all ([`super::lent`]), which spares that. Those that were
//! used for transactions stay in the mode in which the next statement begins one, which spares
//! the way to the server that beginning one takes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use super::options::MysqlOptions;
use crate::pipeline::clock::Clock;
use crate::pipeline::store::StoreError;

/// A connection that was not used for this long is tested before it is.
const TESTED_AFTER: Duration = Duration::from_secs(1);
/// How long a connection may take to close, and the pool waits for those that are lent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections of a store.
pub(super) struct Pool {
    connect: MySqlConnectOptions,
    /// What every connection begins with.
    session: String,
    /// Where the server's clock stands to these connections, if not where it does.
    time: Option<Arc<dyn Clock>>,
    wait: Duration,
    idle_max: Duration,
    connections_max: u32,
    permits: Arc<Semaphore>,
    /// Those that nobody uses, the one used last at the back.
    idle: Mutex<VecDeque<Idle>>,
}

/// What the next statement on a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is committed by itself.
    Single,
    /// It begins a transaction.
    Transaction,
}

impl Mode {
    fn set(self) -> &'static str {
        match self {
            Self::Single => "SET autocommit = 1",
            Self::Transaction => "SET autocommit = 0",
        }
    }
}

/// A connection that nobody uses; no transaction is open on it.
struct Idle {
    connection: MySqlConnection,
    mode: Mode,
    since: Instant,
}

/// A connection with the right to have one.
pub(super) struct Held {
    pub(super) connection: MySqlConnection,
    mode: Mode,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(
        connect: MySqlConnectOptions,
        mysql: &MysqlOptions,
        time: Option<Arc<dyn Clock>>,
    ) -> Self {
        let connections_max = mysql.connections_max.max(1);
        Self {
            connect,
            session: session_settings(mysql),
            time,
            wait: Duration::from_millis(mysql.connect_timeout_ms.max(1)),
            // Before the server does.
            idle_max: Duration::from_secs(u64::from(mysql.idle_s.max(2))) / 2,
            connections_max,
            permits: Arc::new(Semaphore::new(connections_max.try_into().unwrap_or(usize::MAX))),
            idle: Mutex::default(),
        }
    }

    /// Waits for a connection in a mode, in turn.
    pub(super) async fn take(&self, mode: Mode) -> Result<Held, Failure> {
        let taken = async {
            let permit = self.permits.clone().acquire_owned().await.map_err(|_| {
                Failure::Final(StoreError::Transient("the store was closed".to_owned()))
            })?;
            let (mut connection, found) = match self.tested(mode).await {
                Some(found) => found,
                None => (self.open().await?, Mode::Single),
            };
            if found != mode {
                sqlx::raw_sql(mode.set()).execute(&mut connection).await?;
            }
            Ok::<_, Failure>(Held { connection, mode, permit })
        };
        tokio::time::timeout(self.wait, taken).await.unwrap_or_else(|_| {
            let wait = self.wait.as_millis();
            Err(Failure::Again(format!("no connection was to be had within {wait} ms")))
        })
    }

    /// Takes a connection back on which nothing is under way.
    pub(super) fn give_back(&self, Held { connection, mode, permit }: Held) {
        if self.permits.is_closed() {
            close(connection);
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push_back(Idle { connection, mode, since: Instant::now() });
        while idle.front().is_some_and(|idle| idle.since.elapsed() > self.idle_max) {
            if let Some(Idle { connection, .. }) = idle.pop_front() {
                close(connection);
            }
        }
        drop(idle);
        drop(permit);
    }

    /// Closes the connections; waits for those that are lent, for some time.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(self.connections_max);
        let all = tokio::time::timeout(CLOSE_TIMEOUT, all).await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let quit = idle.into_iter().map(|idle| idle.connection.close());
        // Those that can't say goodbye are closed all the same.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, futures::future::join_all(quit)).await;
    }

    /// One of those that nobody uses, if it is still of use; one of that mode, if there is one.
    async fn tested(&self, mode: Mode) -> Option<(MySqlConnection, Mode)> {
        loop {
            let Idle { mut connection, mode, since } = self.last_used(mode)?;
            let unused = since.elapsed();
            if unused > self.idle_max {
                close(connection);
                continue;
            }
            if unused > TESTED_AFTER && connection.ping().await.is_err() {
                continue;
            }
            if set_time(&mut connection, self.time.as_deref()).await.is_ok() {
                return Some((connection, mode));
            }
        }
    }

    fn last_used(&self, mode: Mode) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().rposition(|idle| idle.mode == mode) {
            Some(at) => idle.remove(at),
            None => idle.pop_back(),
        }
    }

    async fn open(&self) -> Result<MySqlConnection, Failure> {
        let mut connection = self.connect.connect().await?;
        let session = AssertSqlSafe(self.session.as_str());
        sqlx::raw_sql(session).execute(&mut connection).await?;
        set_time(&mut connection, self.time.as_deref()).await?;
        Ok(connection)
    }
}

/// Says goodbye to the server, which logs a warning otherwise.
fn close(connection: MySqlConnection) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close()).await;
    });
}

/// What every connection begins with. The modes are those that MySQL 8.4 has by default and
/// MariaDB does not.
fn session_settings(mysql: &MysqlOptions) -> String {
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION sql_mode = 'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,\
         NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
         innodb_lock_wait_timeout = {}, wait_timeout = {}",
        mysql.lock_wait_s.max(1),
        mysql.idle_s.max(2)
    )
}

/// Lets the server's clock stand, to this connection, where `time` does.
async fn set_time(
    connection: &mut MySqlConnection,
    time: Option<&dyn Clock>,
) -> Result<(), sqlx::Error> {
    let Some(time) = time else { return Ok(()) };
    // A tenth of a millisecond more: the server takes it through a binary fraction.
    let millis = time.now().millis();
    let set = format!("SET SESSION timestamp = {}.{:03}1", millis / 1_000, millis % 1_000);
    sqlx::raw_sql(AssertSqlSafe(set)).execute(connection).await?;
    Ok(())
}
