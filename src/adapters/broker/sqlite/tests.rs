//! Failures of the disk, made on the writing connection.

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::adapters::clock::SystemClock;
use crate::model::Timestamp;

const P0: Partition = Partition(0);

fn record(size: usize) -> Record {
    let value = Bytes::from(vec![1; size]);
    Record { key: None, value, headers: Default::default(), time: Timestamp::default() }
}

async fn log() -> (TempDir, SqliteLog) {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteLogOptions { tail_bytes_per_partition: 0, ..SqliteLogOptions::default() };
    let path = directory.path().join("log.db");
    let log = SqliteLog::open(&path, options, Arc::new(SystemClock)).await.unwrap();
    log.create_topic("ticks", 1).await.unwrap();
    assert_eq!(log.append("ticks", P0, vec![record(10)]).await, Ok(Offset(0)));
    (directory, log)
}

impl SqliteLog {
    async fn execute(&self, statement: &'static str) -> Result<(), BrokerError> {
        self.request(|reply| Request::Execute(statement, reply)).await
    }
}

#[tokio::test]
async fn a_full_disk_is_transient_and_the_log_goes_on_when_there_is_space() {
    let (_directory, log) = log().await;
    // SQLite takes this as the size that the file has already.
    log.execute("PRAGMA max_page_count = 1").await.unwrap();
    for _ in 0..3 {
        let error = log.append("ticks", P0, vec![record(100_000)]).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains("no space left for"), "{error}");
    }
    let error = log.create_topic("alerts", 1_000).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(log.bounds("ticks", P0).await.unwrap().end, Offset(1));
    assert_eq!(log.read("ticks", P0, Offset(0), 1).await.unwrap().len(), 1);
    let used = log.used_bytes();

    log.execute("PRAGMA max_page_count = 1000000").await.unwrap();
    assert_eq!(log.append("ticks", P0, vec![record(100_000)]).await, Ok(Offset(1)));
    assert_eq!(log.used_bytes(), used + 100_016);
    assert_eq!(log.create_topic("alerts", 1).await.unwrap().partitions, 1);
    assert_eq!(log.read("ticks", P0, Offset(1), 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_becomes_read_only_is_named() {
    let (_directory, log) = log().await;
    log.execute("PRAGMA query_only = 1").await.unwrap();
    let error = log.append("ticks", P0, vec![record(1)]).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("log.db is read-only"), "{error}");
    // The next one has a new connection.
    assert_eq!(log.append("ticks", P0, vec![record(1)]).await, Ok(Offset(1)));
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_found_out_before_offsets_are_given() {
    let (_directory, log) = log().await;
    let wait = log.wait("ticks", P0, Offset(3));
    log.execute(
        "INSERT INTO batch VALUES (1, 1, 3, 90, 26, 0, 0, zeroblob(9)); SELECT no_such_function()",
    )
    .await
    .unwrap_err();
    assert_eq!(log.append("ticks", P0, vec![record(10)]).await, Ok(Offset(4)));
    assert_eq!(wait.await, Ok(()));
    assert_eq!(log.used_bytes(), 26 + 90 + 26);
}

#[tokio::test]
async fn a_locked_file_is_transient() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let options = SqliteLogOptions { busy_timeout_ms: 1, ..SqliteLogOptions::default() };
    let log = SqliteLog::open(&path, options.clone(), Arc::new(SystemClock)).await.unwrap();
    log.create_topic("ticks", 1).await.unwrap();
    let mut other = schema::connect_writer(&path, &options).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let error = log.append("ticks", P0, vec![record(1)]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("locked"), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(log.append("ticks", P0, vec![record(1)]).await, Ok(Offset(0)));
}
