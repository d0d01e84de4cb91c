//! Opening the embedded store: file, mode, schema, and errors that say what to do when one of
//! them is not as it should be.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::watch;

use super::topics::known_partitions;
use super::{Inner, SqliteStore, SqliteStoreOptions};
use crate::pipeline::clock::Clock;
use crate::pipeline::store::StoreError;

/// Small pages, because the evaluator touches many that lie apart: one a symbol for its newest
/// price. A commit writes whole pages, so this divides what it writes by four.
const PAGE_BYTES: u32 = 1024;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

impl SqliteStore {
    /// Opens the store in the file `path`, which is created if missing and brought up to this
    /// version's schema.
    ///
    /// Several processes may have the file open. The one that delivers calls
    /// [`release_claims`](Self::release_claims) next.
    pub async fn open(
        path: &Path,
        options: SqliteStoreOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        create_private(path).map_err(|error| cannot_open(path, &error.to_string()))?;
        let writer = writer(path, &options);
        let (version, partitions) =
            prepare(&writer).await.map_err(|error| name_file(path, error))?;
        let readers = readers(path, &options);
        let store = Self {
            inner: Arc::new(Inner {
                options,
                clock,
                writer,
                readers,
                changes: watch::Sender::new(1),
                changes_read: OnceLock::new(),
                data_version: AtomicU64::new(version.cast_unsigned()),
            }),
        };
        if let Some(partitions) = partitions {
            store.know_partitions(partitions);
        }
        Ok(store)
    }
}

/// Makes the file ready for use; returns its `data_version` and the number of partitions.
async fn prepare(writer: &SqlitePool) -> Result<(i64, Option<u32>), StoreError> {
    let mut connection = writer.acquire().await?;
    migrate(&mut connection).await?;
    let partitions = known_partitions(&mut connection).await?;
    let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *connection).await?;
    Ok((version, partitions))
}

/// Creates the file for its owner alone before SQLite sees it: SQLite gives its companions
/// (`-wal`, `-shm`) the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
            // Narrowed, never widened: a file that its owner made read-only stays so.
            if mode & 0o077 != 0 {
                std::fs::set_permissions(path, Permissions::from_mode(mode & 0o600))?;
            }
            Ok(())
        }
        other => other.map(drop),
    }
}

fn connect_options(path: &Path, options: &SqliteStoreOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_millis(options.busy_timeout_ms))
        .statement_cache_capacity(200)
        .disable_statement_logging()
}

/// The connection that writes. WAL lets readers go on meanwhile; FULL makes a commit durable.
fn writer(path: &Path, options: &SqliteStoreOptions) -> SqlitePool {
    let connect = connect_options(path, options)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", format!("-{}", options.writer_cache_kib))
        .pragma("wal_autocheckpoint", (options.checkpoint_kib / (PAGE_BYTES / 1024)).to_string());
    pool(1, options.writer_wait_ms).connect_lazy_with(connect)
}

fn readers(path: &Path, options: &SqliteStoreOptions) -> SqlitePool {
    let connect = connect_options(path, options)
        .pragma("cache_size", format!("-{}", options.reader_cache_kib))
        .pragma("query_only", "ON");
    pool(options.readers_max, options.reader_wait_ms).connect_lazy_with(connect)
}

/// Connections to a local file neither age nor break, so they are not tested before use.
fn pool(connections_max: u32, wait_ms: u64) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max.max(1))
        .acquire_timeout(Duration::from_millis(wait_ms))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Brings the schema up to date, in one transaction: SQLite's migrations take no lock of their
/// own, and two processes may start at once.
async fn migrate(writer: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    match MIGRATIONS.run_direct(None, &mut *tx, false).await {
        Ok(()) => Ok(tx.commit().await?),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(error.into())
        }
        Err(MigrateError::VersionMissing(version)) => Err(StoreError::Permanent(format!(
            "it was written by a newer version of tripline (migration {version} is not known \
             here); run that version, or restore a backup from before it"
        ))),
        Err(MigrateError::VersionMismatch(version)) => Err(StoreError::Permanent(format!(
            "its migration {version} is not the one of this version of tripline; run the version \
             that wrote it"
        ))),
        Err(error) => Err(StoreError::Permanent(error.to_string())),
    }
}

fn cannot_open(path: &Path, why: &str) -> StoreError {
    StoreError::Permanent(format!(
        "cannot open {}: {why}; check that its folder exists and that this user may write there",
        path.display()
    ))
}

/// Says which file an error is about.
fn name_file(path: &Path, error: StoreError) -> StoreError {
    let named = |why| format!("{}: {why}", path.display());
    match error {
        StoreError::Transient(why) => StoreError::Transient(named(why)),
        StoreError::Permanent(why) => StoreError::Permanent(named(why)),
        other => other,
    }
}
