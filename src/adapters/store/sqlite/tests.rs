//! What the shared parts do when something goes wrong inside of them.

use std::sync::Arc;

use tempfile::TempDir;

use super::{SqliteStore, SqliteStoreOptions};
use crate::adapters::clock::ManualClock;
use crate::adapters::store::{ALERTS_TOPIC, TICKS_TOPIC};
use crate::model::{Partition, Timestamp};
use crate::pipeline::broker::{Topic, TopicId};
use crate::pipeline::evaluate::EvaluateStore;
use crate::pipeline::store::{StoreError, TopicStore};

async fn store() -> (TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::default()));
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path, SqliteStoreOptions::default(), clock).await.unwrap();
    for (name, id) in [(TICKS_TOPIC, 1), (ALERTS_TOPIC, 2)] {
        let id = TopicId(uuid::Uuid::from_u128(id));
        store.adopt_topic(name, Topic { partitions: 1, id }).await.unwrap();
    }
    (folder, store)
}

/// Writes many rows, and commits.
async fn fill(store: &SqliteStore) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    sqlx::query(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000) \
         INSERT INTO imports SELECT randomblob(100), n FROM n",
    )
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

#[tokio::test]
async fn a_full_disk_is_worth_another_try_and_leaves_nothing_behind() {
    let (_folder, store) = store().await;
    sqlx::query("PRAGMA max_page_count = 150").execute(&store.inner.writer).await.unwrap();
    let error = fill(&store).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("no room left; free some"), "{error}");
    // A transaction that SQLite has undone by itself must not be in the way of the next one.
    drop(store.write().await.unwrap());
    sqlx::query("PRAGMA max_page_count = 100000").execute(&store.inner.writer).await.unwrap();
    fill(&store).await.unwrap();
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM imports")
        .fetch_one(&mut *store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(rows, 5000);
}

#[tokio::test]
async fn a_dropped_transaction_is_undone_and_lets_the_next_one_in() {
    let (_folder, store) = store().await;
    let mut tx = store.write().await.unwrap();
    sqlx::query("DELETE FROM topics").execute(&mut *tx).await.unwrap();
    drop(tx);
    let mut tx = store.write().await.unwrap();
    let topics: i64 =
        sqlx::query_scalar("SELECT count(*) FROM topics").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(topics, 2);
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_folder, store) = store().await;
    let mut reader = store.read().await.unwrap();
    assert!(sqlx::query("DELETE FROM topics").execute(&mut *reader).await.is_err());
}

/// The clock stands still, so that only the signal can wake the one who waits.
#[tokio::test]
async fn a_command_of_this_process_wakes_the_evaluator_at_once() {
    let (_folder, store) = store().await;
    let partition = Partition(0);
    assert_eq!(store.changes(partition, 9).await.unwrap(), []);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.changed(partition).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    store.notify_changes();
    waiting.await.unwrap();
    // It came before the call: not lost either, until the changes are read.
    store.changed(partition).await;
    store.changes(partition, 9).await.unwrap();
    let waiting = tokio::spawn(async move { store.changed(partition).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    waiting.abort();
}
