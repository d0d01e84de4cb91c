//! What the SQLite log does beyond the contract: killed processes, damaged and foreign files,
//! modes, ages.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tripline::adapters::broker::sqlite::{SqliteLog, SqliteLogOptions};
use tripline::adapters::clock::{ManualClock, SystemClock};
use tripline::model::{Offset, Timestamp};
use tripline::pipeline::broker::{Bounds, Broker, BrokerError};

use crate::support::{P0, TOPIC, not_run, read_all, record, soon, texts};

fn options() -> SqliteLogOptions {
    SqliteLogOptions { busy_timeout_ms: 2_000, ..SqliteLogOptions::default() }
}

async fn open(path: &Path) -> Result<SqliteLog, BrokerError> {
    soon(SqliteLog::open(path, options(), Arc::new(SystemClock))).await
}

async fn refused(path: &Path) -> BrokerError {
    open(path).await.err().expect("a refusal")
}

/// A log of some batches of one record each, closed.
async fn closed_log(path: &Path, batches: usize) {
    let log = open(path).await.unwrap();
    log.create_topic(TOPIC, 1).await.unwrap();
    for i in 0..batches {
        log.append(TOPIC, P0, vec![record(i.to_string())]).await.unwrap();
    }
    log.close().await;
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

#[tokio::test]
async fn the_files_belong_to_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let log = open(&directory.path().join("log.db")).await.unwrap();
    log.create_topic(TOPIC, 1).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["log.db", "log.db-shm", "log.db-wal", "log.db.lock"]);
    log.close().await;
    assert!(!directory.path().join("log.db-wal").exists(), "folded in");
}

/// The child of the next test: appends until it is killed, and says what was accepted.
#[tokio::test]
#[ignore = "runs as the child of another test"]
async fn append_until_killed() {
    let log = open(Path::new(&std::env::var("TRIPLINE_TEST_LOG").unwrap())).await.unwrap();
    log.create_topic(TOPIC, 1).await.unwrap();
    for i in 0.. {
        let offset = log.append(TOPIC, P0, vec![record(i.to_string())]).await.unwrap();
        writeln!(std::io::stderr(), "accepted {offset}").unwrap();
    }
}

#[tokio::test]
async fn what_was_accepted_survives_the_kill_of_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::append_until_killed", "--ignored", "--nocapture"])
        .env("TRIPLINE_TEST_LOG", &path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut accepted: Vec<u64> = Vec::new();
    let mut killed = false;
    for line in lines {
        if let Some(offset) = line.unwrap().strip_prefix("accepted ") {
            accepted.push(offset.parse().unwrap());
        }
        if accepted.len() == 20 && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {accepted:?}");
    let log = open(&path).await.unwrap();
    let read = texts(&read_all(&log, P0, Offset(0), 1_000).await.unwrap());
    assert!(read.len() >= accepted.len(), "{} of {} are there", read.len(), accepted.len());
    assert!(read.iter().enumerate().all(|(i, text)| *text == i.to_string()));
}

#[tokio::test]
async fn a_second_process_is_kept_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let log = open(&path).await.unwrap();
    let error = refused(&path).await;
    assert!(error.is_transient() && error.to_string().contains("has"), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    log.close().await;
    open(&path).await.unwrap();
}

#[tokio::test]
async fn foreign_damaged_and_newer_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("log.db");
    let error = refused(&path).await.to_string();
    assert!(error.contains("cannot open") && error.contains("missing"), "{error}");

    let path = directory.path().join("noise.db");
    std::fs::write(&path, [0xa5; 20_000]).unwrap();
    let error = refused(&path).await;
    assert!(!error.is_transient() && error.to_string().contains("is damaged or no"), "{error}");

    let path = directory.path().join("other.db");
    std::fs::write(&path, "").unwrap();
    sqlx::raw_sql("CREATE TABLE users (id INTEGER)").execute(&mut raw(&path).await).await.unwrap();
    let error = refused(&path).await.to_string();
    assert!(error.contains("found another database"), "{error}");

    let path = directory.path().join("newer.db");
    closed_log(&path, 1).await;
    sqlx::raw_sql("PRAGMA user_version = 7").execute(&mut raw(&path).await).await.unwrap();
    let error = refused(&path).await.to_string();
    assert!(error.contains("expected version 2") && error.contains("found 7"), "{error}");
}

#[tokio::test]
async fn a_file_of_before_topics_had_ids_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    closed_log(&path, 3).await;
    let older = "DROP TABLE topic; PRAGMA user_version = 1";
    sqlx::raw_sql(older).execute(&mut raw(&path).await).await.unwrap();
    let log = open(&path).await.unwrap();
    assert_eq!(texts(&read_all(&log, P0, Offset(0), 1_000).await.unwrap()), ["0", "1", "2"]);
    let topic = log.topic(TOPIC).await.unwrap();
    log.close().await;
    assert_eq!(open(&path).await.unwrap().topic(TOPIC).await, Ok(topic));
}

#[tokio::test]
async fn a_read_only_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    closed_log(&path, 1).await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        not_run("a_read_only_file_is_refused: root may write to read-only files");
        return;
    }
    let error = refused(&path).await.to_string();
    assert!(error.contains("for writing"), "{error}");
}

#[tokio::test]
async fn a_damaged_batch_is_named_and_the_others_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    for damage in [
        "UPDATE batch SET body = zeroblob(length(body)) WHERE base = 1",
        "UPDATE batch SET body = substr(body, 1, 7) WHERE base = 1",
        "UPDATE batch SET records = 2 WHERE base = 1",
        "UPDATE batch SET body = (SELECT body FROM batch WHERE base = 2), \
         crc = (SELECT crc FROM batch WHERE base = 2) WHERE base = 1",
        "DELETE FROM batch WHERE base = 1",
    ] {
        std::fs::remove_file(&path).ok();
        closed_log(&path, 4).await;
        sqlx::raw_sql(damage).execute(&mut raw(&path).await).await.unwrap();
        let log = open(&path).await.unwrap();
        assert_eq!(texts(&log.read(TOPIC, P0, Offset(0), 1).await.unwrap()), ["0"]);
        let error = log.read(TOPIC, P0, Offset(1), 1).await.unwrap_err();
        assert!(!error.is_transient());
        let (error, file) = (error.to_string(), path.display());
        let place = format!("{file} is damaged: the batch at offset 1 of ticks/0 is");
        assert!(error.contains(&place), "{damage}: {error}");
        assert_eq!(texts(&log.read(TOPIC, P0, Offset(2), 1_000).await.unwrap()), ["2", "3"]);
        log.close().await;
    }
}

#[tokio::test]
async fn old_batches_go_once_every_group_has_passed_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000).unwrap()));
    let options = SqliteLogOptions { retention_age_s: 60, sweep_interval_s: 30, ..options() };
    let log = SqliteLog::open(&path, options.clone(), clock.clone()).await.unwrap();
    log.create_topic(TOPIC, 1).await.unwrap();
    let first = async |log: &SqliteLog| {
        log.sweep().await.unwrap();
        log.bounds(TOPIC, P0).await.unwrap().first.0
    };
    for text in ["a", "b", "c"] {
        log.append(TOPIC, P0, vec![record(text)]).await.unwrap();
        clock.advance(Duration::from_secs(20));
    }
    log.commit("evaluator", TOPIC, P0, Offset(0)).await.unwrap();
    assert_eq!(first(&log).await, 0, "a is old but not read");
    log.commit("evaluator", TOPIC, P0, Offset(3)).await.unwrap();
    assert_eq!(first(&log).await, 1, "b and c are not old");
    clock.advance(Duration::from_secs(20));
    assert_eq!(first(&log).await, 2);
    log.close().await;
    drop(log);

    // Ages are those of the batches, not of the process; positions were saved.
    clock.advance(Duration::from_secs(3_600));
    let log = SqliteLog::open(&path, options, clock.clone()).await.unwrap();
    assert_eq!(first(&log).await, 3);
    assert_eq!(log.used_bytes(), 0);
    let bounds = Bounds { first: Offset(3), end: Offset(3) };
    assert_eq!(log.bounds(TOPIC, P0).await, Ok(bounds));
    assert_eq!(log.append(TOPIC, P0, vec![record("d")]).await, Ok(Offset(3)));
}

#[tokio::test]
async fn the_sweep_comes_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000).unwrap()));
    let options = SqliteLogOptions { retention_age_s: 5, sweep_interval_s: 10, ..options() };
    let path = directory.path().join("log.db");
    let log = SqliteLog::open(&path, options, clock.clone()).await.unwrap();
    log.create_topic(TOPIC, 1).await.unwrap();
    log.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    soon(async {
        while log.bounds(TOPIC, P0).await.unwrap().first == Offset(0) {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    })
    .await;
}
