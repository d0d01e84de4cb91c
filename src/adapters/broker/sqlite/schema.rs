//! The log's file: creating, locking and opening it, and what it holds at the start.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use uuid::Uuid;

use super::SqliteLogOptions;
use super::error::explain;
use super::partition::Extent;
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{BrokerError, TopicId};

/// `PRAGMA application_id` of a log.
const APPLICATION: i64 = 1_416_785_007;
/// What brings a file to the next version, from an empty one on: `PRAGMA user_version` counts
/// those that it has been through.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../../../migrations/log/0001_log.sql"),
    include_str!("../../../../migrations/log/0002_topic.sql"),
];

/// How often to try again for the lock of a process that is about to end.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Creates the file if it is missing, readable by its owner only (SQLite gives -wal and -shm
/// the same mode), and locks it for as long as the returned handle lives: the ends of the
/// partitions are kept in memory, so there must be one writer only.
///
/// The lock is on a file beside it, because closing a second handle of the database would
/// release SQLite's own locks.
pub(super) fn claim(path: &Path, patience: Duration) -> Result<File, BrokerError> {
    let refuse = |path: &Path, error: &std::io::Error| {
        BrokerError::Permanent(format!("cannot open {} for writing: {error}", path.display()))
    };
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(path).map_err(|error| refuse(path, &error))
    };
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock = open(&lock_path)?;
    let deadline = Instant::now() + patience;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(BrokerError::Transient(format!(
                    "another process has {} open: stop it, or use another directory",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(refuse(&lock_path, &error)),
        }
    }
    open(path)?;
    Ok(lock)
}

fn connect_options(path: &Path, options: &SqliteLogOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_millis(options.busy_timeout_ms))
        .disable_statement_logging()
}

/// Opens the connection that writes. A commit is on the disk when it returns.
pub(super) async fn connect_writer(
    path: &Path,
    options: &SqliteLogOptions,
) -> Result<SqliteConnection, sqlx::Error> {
    connect_options(path, options)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
}

/// The connections that read. They open when they are needed, and buffer few rows, because a
/// row may be as large as a batch.
pub(super) fn reader_pool(path: &Path, options: &SqliteLogOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(options.read_connections_max)
        .acquire_timeout(Duration::from_millis(options.busy_timeout_ms.max(1)))
        .connect_lazy_with(connect_options(path, options).read_only(true).row_buffer_size(1))
}

/// Creates the tables in an empty file, brings an older one up to date, and refuses files of
/// others and of newer versions.
pub(super) async fn migrate(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), BrokerError> {
    let explain = |error: sqlx::Error| explain(path, &error);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
    let number = "SELECT (SELECT user_version FROM pragma_user_version), \
                  (SELECT application_id FROM pragma_application_id), \
                  (SELECT count(*) FROM sqlite_schema)";
    let (version, application, tables): (i64, i64, i64) =
        sqlx::query_as(number).fetch_one(&mut *transaction).await.map_err(explain)?;
    if tables > 0 && application != APPLICATION {
        return Err(BrokerError::Permanent(format!(
            "expected a log of this program, found another database in {}",
            path.display()
        )));
    }
    let Some(due) = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)) else {
        return Err(BrokerError::Permanent(format!(
            "expected version {} of the log's format, found {version} in {}: it was written by a \
             newer release of this program",
            MIGRATIONS.len(),
            path.display()
        )));
    };
    for migration in due {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(explain)?;
    }
    transaction.commit().await.map_err(explain)
}

/// A partition as the file has it.
#[derive(Debug)]
pub(super) struct StoredPartition {
    pub(super) id: i64,
    pub(super) topic: String,
    pub(super) topic_id: TopicId,
    pub(super) number: Partition,
    pub(super) extent: Extent,
}

/// Every partition, by topic and number. Looks at the first and the last batch of each only.
pub(super) async fn partitions(
    connection: &mut SqliteConnection,
) -> Result<Vec<StoredPartition>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT p.id, p.topic, p.number, p.end, f.base, f.bytes_before, \
                l.base + l.records, l.bytes_before + l.bytes, t.id \
         FROM partition AS p JOIN topic AS t ON t.name = p.topic \
         LEFT JOIN batch AS f ON f.partition = p.id AND f.base = \
             (SELECT min(base) FROM batch WHERE partition = p.id) \
         LEFT JOIN batch AS l ON l.partition = p.id AND l.base = \
             (SELECT max(base) FROM batch WHERE partition = p.id) \
         ORDER BY p.topic, p.number",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let stored_end = from_sql(row.try_get(3)?);
            let some = |value: Option<i64>| value.map(from_sql);
            let end = some(row.try_get(6)?).unwrap_or_default().max(stored_end);
            Ok(StoredPartition {
                id: row.try_get(0)?,
                topic: row.try_get(1)?,
                topic_id: topic_id(row.try_get(8)?)?,
                number: Partition(row.try_get(2)?),
                extent: Extent {
                    first: Offset(some(row.try_get(4)?).unwrap_or(end)),
                    end: Offset(end),
                    bytes_dropped: some(row.try_get(5)?).unwrap_or_default(),
                    bytes_total: some(row.try_get(7)?).unwrap_or_default(),
                },
            })
        })
        .collect()
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, sqlx::Error> {
    Uuid::from_slice(bytes).map(TopicId).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Every group's saved position, as topic, partition, group and offset.
pub(super) async fn positions(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, Partition, String, Offset)>, sqlx::Error> {
    let rows: Vec<(String, u32, String, i64)> = sqlx::query_as(
        "SELECT p.topic, p.number, c.consumer, c.next \
         FROM position AS c JOIN partition AS p ON p.id = c.partition",
    )
    .fetch_all(connection)
    .await?;
    let position =
        |(topic, number, group, next)| (topic, Partition(number), group, Offset(from_sql(next)));
    Ok(rows.into_iter().map(position).collect())
}

/// A count as SQLite keeps it. Offsets and bytes do not come near 2^63.
pub(super) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count from SQLite. A negative one is damage, which the checksums find.
pub(super) fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
