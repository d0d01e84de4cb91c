//! Opening the store on a server: connections, schema, and errors that say what to do.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use tokio::sync::watch;

use super::lent::Lent;
use super::pool::Pool;
use super::topics::known_partitions;
use super::{Failure, Inner, MysqlOptions, MysqlStore};
use crate::adapters::store::rows::int;
use crate::adapters::store::sqlite::SqliteStoreOptions;
use crate::adapters::tls;
use crate::pipeline::clock::Clock;
use crate::pipeline::store::StoreError;

/// How long a start waits for another process that brings the schema up to date, in seconds.
const MIGRATION_WAIT_S: u32 = 300;
/// Statements kept prepared on a connection.
const STATEMENTS_MAX: usize = 256;

impl MysqlStore {
    /// Opens the store in the database of `mysql.url`, which must exist, and brings it up to this
    /// version's schema; of several processes that start at once, one does. `clock` is waited by;
    /// stored times are the server's.
    pub async fn open(
        mysql: MysqlOptions,
        options: SqliteStoreOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::connect(mysql, options, clock, None).await
    }

    /// The same on connections to which the server's clock stands where `clock` does, for tests
    /// that turn it by hand.
    #[doc(hidden)]
    pub async fn open_with_time_of(
        mysql: MysqlOptions,
        options: SqliteStoreOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        Self::connect(mysql, options, clock.clone(), Some(clock)).await
    }

    async fn connect(
        mysql: MysqlOptions,
        options: SqliteStoreOptions,
        clock: Arc<dyn Clock>,
        time: Option<Arc<dyn Clock>>,
    ) -> Result<Self, StoreError> {
        let connect = connect_options(&mysql).map_err(StoreError::Permanent)?;
        let pool = Arc::new(Pool::new(connect, &mysql, time));
        let mut inner = Inner {
            mysql,
            options,
            clock,
            pool,
            id_step: 1,
            partitions: AtomicU32::new(0),
            changes: watch::Sender::new(1),
            changes_read: Mutex::default(),
        };
        let opening = Self { inner: Arc::new(inner) };
        let limit = Duration::from_secs(2 * u64::from(MIGRATION_WAIT_S));
        let (id_step, partitions) = opening
            .attempts_within(limit, |_| async {
                let mut connection = opening.read().await?;
                let prepared = prepare(&mut connection).await?;
                connection.give_back();
                Ok(prepared)
            })
            .await?;
        inner = Arc::try_unwrap(opening.inner)
            .map_err(|_| StoreError::Permanent("the store is in use already".to_owned()))?;
        inner.id_step = id_step;
        inner.partitions = AtomicU32::new(partitions);
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// How to reach the server, and whether to trust it: for the store, and for who waits for it.
/// The error names the option.
pub(crate) fn connect_options(mysql: &MysqlOptions) -> Result<MySqlConnectOptions, String> {
    let form = "mysql://USER:PASSWORD@HOST:PORT/DATABASE";
    let expected = |found: &str| format!("mysql.url: expected {form}, found {found}");
    // The URL holds a password: it is not shown, nor is what the parser says of it.
    let url = Some(&mysql.url).filter(|url| url.starts_with("mysql://"));
    let options: MySqlConnectOptions =
        url.and_then(|url| url.parse().ok()).ok_or_else(|| expected("something else"))?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(expected("no database"));
    }
    let options = options
        .charset("utf8mb4")
        .timezone("+00:00".to_owned())
        .pipes_as_concat(false)
        .statement_cache_capacity(STATEMENTS_MAX);
    let file = &mysql.root_ca_file;
    if file.as_os_str().is_empty() {
        return Ok(options);
    }
    tls::client_config(Some(file)).map_err(|cause| {
        let file = file.display();
        format!("mysql.root_ca_file: expected PEM certificates in {file}, found: {cause}")
    })?;
    Ok(options.ssl_ca(file).ssl_mode(MySqlSslMode::VerifyIdentity))
}

/// Makes the database ready for use; returns the distance of two ids given out by a statement,
/// and how many partitions there are, or 0.
async fn prepare(connection: &mut Lent) -> Result<(i64, u32), Failure> {
    let version: String =
        sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut **connection).await?;
    check_version(&version)?;
    // Not sqlx's own lock, which waits without an end.
    let locked: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT('tripline.', SHA1(DATABASE())), ?)")
            .bind(MIGRATION_WAIT_S)
            .fetch_one(&mut **connection)
            .await?;
    if locked != Some(1) {
        return Err(Failure::Again("another process is bringing the schema up to date".to_owned()));
    }
    let migrated = migrate(connection).await;
    sqlx::query("DO RELEASE_LOCK(CONCAT('tripline.', SHA1(DATABASE())))")
        .execute(&mut **connection)
        .await?;
    migrated?;
    let server = sqlx::query(
        "SELECT CAST(@@auto_increment_increment AS SIGNED), \
         CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS SIGNED)",
    )
    .fetch_one(&mut **connection)
    .await?;
    if int(&server, 1)? != 1 {
        tracing::warn!(
            "the MySQL server may lose commits when it dies: set innodb_flush_log_at_trx_commit \
             to 1 there"
        );
    }
    tracing::debug!(version, "the store is open");
    Ok((int(&server, 0)?, known_partitions(connection).await?))
}

/// Brings the schema up to date. What a newer version has added is left alone: it was added so
/// that this version can go on beside it.
async fn migrate(connection: &mut MySqlConnection) -> Result<(), Failure> {
    let migrator =
        Migrator { ignore_missing: true, locking: false, ..sqlx::migrate!("migrations/mysql") };
    let mut done = migrator.run_direct(None, connection, false).await;
    if let Err(MigrateError::Dirty(version)) = done {
        // It was interrupted, and is written so that it can be repeated.
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = ? AND success = FALSE")
            .bind(version)
            .execute(&mut *connection)
            .await?;
        done = migrator.run_direct(None, connection, false).await;
        if done.as_ref().is_err_and(is_in_effect) {
            sqlx::query("UPDATE _sqlx_migrations SET success = TRUE WHERE version = ?")
                .bind(version)
                .execute(&mut *connection)
                .await?;
            done = migrator.run_direct(None, connection, false).await;
        }
    }
    match done {
        Ok(()) => {}
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            return Err(error.into());
        }
        Err(MigrateError::VersionMismatch(version)) => {
            return Err(Failure::Final(StoreError::Permanent(format!(
                "migration {version} of the database is not the one of this version of tripline; \
                 run the version that wrote it"
            ))));
        }
        Err(error) => return Err(Failure::Final(StoreError::Permanent(error.to_string()))),
    }
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    let contracted: Option<i64> = sqlx::query_scalar(
        "SELECT MIN(version) FROM _sqlx_migrations \
         WHERE version > ? AND description LIKE 'contract%'",
    )
    .bind(known)
    .fetch_one(connection)
    .await?;
    match contracted {
        None => Ok(()),
        Some(version) => Err(Failure::Final(StoreError::Permanent(format!(
            "the database was made for newer versions of tripline only (migration {version}); \
             run one of those, or restore a backup from before it"
        )))),
    }
}

/// Whether an ALTER that is repeated finds its column or key there already.
fn is_in_effect(error: &MigrateError) -> bool {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return false;
    };
    let error = error.as_database_error();
    // DUP_FIELDNAME, DUP_KEYNAME
    error
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| [1060, 1061].contains(&error.number()))
}

/// Rows that others have locked are skipped by claims, which older servers can't.
fn check_version(version: &str) -> Result<(), StoreError> {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let needed = if version.contains("MariaDB") { (10, 6) } else { (8, 0) };
    if found < needed {
        return Err(StoreError::Permanent(format!(
            "expected MySQL 8.0 or MariaDB 10.6 or later, found {version}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for version in ["8.4.3", "8.0.40-0ubuntu0.24.04.1", "10.11.19-MariaDB-0+deb12u1", "9.1.0"] {
            assert_eq!(check_version(version), Ok(()), "{version}");
        }
        for version in ["5.7.44", "10.5.9-MariaDB", "none"] {
            assert!(check_version(version).is_err(), "{version}");
        }
    }
}
