//! What every consumer of a topic commits: where its partition stands, under which epoch, and
//! the records that it set aside.

use sqlx::sqlite::SqliteConnection;

use super::bulk::Bulk;
use super::rows::signed;
use super::{SqliteStore, Write};
use crate::adapters::store::step::{Advance, Taken, check_partition};
use crate::model::{Offset, Partition, Timestamp};
use crate::pipeline::store::{DeadRecord, Fence, StoreError};

impl SqliteStore {
    /// Takes a partition over: whoever had it before can commit no more.
    pub(super) async fn take(
        &self,
        topic: &str,
        partition: Partition,
        earliest: Offset,
    ) -> Result<Taken, StoreError> {
        check_partition(topic, partition, self.partitions()?)?;
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "INSERT INTO partitions (topic, partition, epoch, position) VALUES (?, ?, 1, ?) \
             ON CONFLICT DO UPDATE SET epoch = epoch + 1 \
             RETURNING epoch, position, last_seq, published_seq",
        )
        .bind(topic)
        .bind(partition.0)
        .bind(signed(earliest.0))
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Taken::of(&row, partition)
    }
}

/// Moves a partition on, if its owner and its place are those named. Returns whether it did:
/// `false` means that this very step has committed before, and nothing is left to do.
pub(super) async fn advance(tx: &mut Write, step: &Advance<'_>) -> Result<bool, StoreError> {
    let Advance { topic, fence: Fence { partition, epoch }, span, published, .. } = step;
    let (first, last) = step.numbers();
    let moved = sqlx::query(
        "UPDATE partitions SET position = ?, last_seq = max(last_seq, ?), \
         published_seq = max(published_seq, ?) \
         WHERE topic = ? AND partition = ? AND epoch = ? AND position = ? AND last_seq < ?",
    )
    .bind(signed(span.to.0))
    .bind(last)
    .bind(signed(published.0))
    .bind(*topic)
    .bind(partition.0)
    .bind(signed(epoch.0))
    .bind(signed(span.from.0))
    .bind(first)
    .execute(&mut **tx)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(true);
    }
    let found = sqlx::query(
        "SELECT epoch, position, last_seq FROM partitions WHERE topic = ? AND partition = ?",
    )
    .bind(*topic)
    .bind(partition.0)
    .fetch_optional(&mut **tx)
    .await?;
    step.judge(found.as_ref())?;
    Ok(false)
}

/// Keeps records that do not decode, once each.
pub(super) async fn set_aside(
    connection: &mut SqliteConnection,
    dead: &[DeadRecord],
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO dead_records \
               (topic, partition, offset, reason, key, value, set_aside_ms) VALUES",
        row: "(?, ?, ?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (topic, partition, offset) DO NOTHING",
    };
    INSERT
        .execute(connection, dead, |query, record| {
            query
                .bind(record.topic.as_str())
                .bind(record.partition.0)
                .bind(signed(record.offset.0))
                .bind(record.reason.as_str())
                .bind(record.key.as_deref())
                .bind(&*record.value)
                .bind(now.millis())
        })
        .await
}
