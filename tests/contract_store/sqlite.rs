//! What only the embedded store has: a file, its mode, and what can be wrong with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use tripline::adapters::clock::ManualClock;
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::model::Offset;
use tripline::pipeline::evaluate::{EvaluateStore, Evaluation};
use tripline::pipeline::record::TICKS_TOPIC;
use tripline::pipeline::store::{StoreError, TopicStore};

use crate::deliveries::{claimant, own};
use crate::fixture::{PARTITIONS, ZERO, adopt, at, span, topic};

async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    let options = SqliteStoreOptions { busy_timeout_ms: 20, ..Default::default() };
    SqliteStore::open(path, options, Arc::new(ManualClock::new(at(0)))).await
}

/// A store that was made and closed again.
async fn made() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = open(&path).await.unwrap();
    adopt(&store).await;
    store.close().await;
    (folder, path)
}

async fn run(path: &Path, sql: &str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// Checks that opening fails in the right way with all of `parts` in its message.
async fn refused(path: &Path, transient: bool, parts: &[&str]) {
    let error = open(path).await.err().unwrap();
    let text = error.to_string();
    assert_eq!(error.is_transient(), transient, "{text}");
    let file = path.display().to_string();
    for part in parts.iter().chain([&file.as_str()]) {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (_folder, path) = made().await;
    let store = open(&path).await.unwrap();
    let fence = store.own(ZERO, Offset(0)).await.unwrap().fence;
    let step = Evaluation::default();
    EvaluateStore::commit(&store, fence, span(0, 9), &step).await.unwrap();
    store.close().await;
    let store = open(&path).await.unwrap();
    assert_eq!(EvaluateStore::own(&store, ZERO, Offset(0)).await.unwrap().position, Offset(9));
}

/// As a store of before topics had ids has it.
#[tokio::test]
async fn a_topic_without_an_id_gets_the_one_that_is_found() {
    let (_folder, path) = made().await;
    run(&path, "UPDATE topics SET id = NULL").await;
    let store = open(&path).await.unwrap();
    store.adopt_topic(TICKS_TOPIC, topic(PARTITIONS, 5)).await.unwrap();
    let refused = store.adopt_topic(TICKS_TOPIC, topic(PARTITIONS, 6)).await;
    assert!(matches!(refused, Err(StoreError::Replaced { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_new_store_says_that_it_knows_no_partitions_yet() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store.db")).await.unwrap();
    let error = EvaluateStore::own(&store, ZERO, Offset(0)).await.unwrap_err();
    assert!(error.to_string().contains("start `tripline serve` on it once"), "{error}");
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    let (_folder, path) = made().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path).await.unwrap();
    EvaluateStore::own(&store, ZERO, Offset(0)).await.unwrap();
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let mode = std::fs::metadata(path.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    refused(&folder.path().join("none/store.db"), false, &["cannot open", "its folder exists"])
        .await;
}

#[tokio::test]
async fn a_locked_file_is_worth_another_try() {
    let (_folder, path) = made().await;
    let mut other = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    refused(&path, true, &["locked by another process"]).await;
}

#[tokio::test]
async fn a_newer_version_is_left_alone() {
    let (_folder, path) = made().await;
    run(&path, "INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)").await;
    refused(&path, false, &["newer version of tripline", "migration 9999", "restore a backup"])
        .await;
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let (_folder, path) = made().await;
    std::fs::write(&path, "this was a database once ".repeat(400)).unwrap();
    refused(&path, false, &["damaged or no database", "restore it from a backup"]).await;
}

/// The byte 18 of the file says who may write it; SQLite takes a value that it does not know
/// for read-only. (A file's mode would not stop a test that runs as root.)
#[tokio::test]
async fn a_read_only_file_is_refused() {
    let (_folder, path) = made().await;
    run(&path, "PRAGMA journal_mode = DELETE").await;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[18] = 3;
    std::fs::write(&path, bytes).unwrap();
    refused(&path, false, &["read-only", "let this user write it"]).await;
}

#[tokio::test]
async fn claims_of_a_dead_process_are_released() {
    let (f, store) = crate::fixture::sqlite_store().await;
    let (_, alerts) = f.alerts(1).await;
    let (ann, bob) = (claimant("a"), claimant("b"));
    let got = f.notify.accept(own(&f).await, span(0, 1), &alerts, &[], &ann, 9).await.unwrap();
    assert_eq!(f.notify.claim(&bob, 9).await.unwrap().deliveries, []);
    assert_eq!(store.release_claims().await.unwrap(), 1);
    assert_eq!(f.notify.claim(&bob, 9).await.unwrap().deliveries, got);
}
