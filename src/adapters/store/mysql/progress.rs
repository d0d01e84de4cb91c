//! What every consumer of a topic commits: where its partition stands, under which epoch, and
//! the records that it set aside.

use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, padded};
use super::{Failure, MysqlStore, now_ms};
use crate::adapters::store::rows::signed;
use crate::adapters::store::step::{Advance, Taken, check_partition};
use crate::model::{Offset, Partition};
use crate::pipeline::store::{DeadRecord, Fence, StoreError};

impl MysqlStore {
    /// Takes a partition over: whoever had it before can commit no more. One that nobody had
    /// stands at `earliest`.
    pub(super) async fn take(
        &self,
        topic: &str,
        partition: Partition,
        earliest: Offset,
    ) -> Result<Taken, StoreError> {
        check_partition(topic, partition, self.partitions()?)?;
        // One time too many raises the epoch twice, and does no harm.
        self.attempts(|_| self.raise(topic, partition, earliest)).await
    }

    async fn raise(
        &self,
        topic: &str,
        partition: Partition,
        earliest: Offset,
    ) -> Result<Taken, Failure> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO partitions (topic, `partition`, epoch, position) VALUES (?, ?, 1, ?) \
             ON DUPLICATE KEY UPDATE epoch = epoch + 1",
        )
        .bind(topic)
        .bind(partition.0)
        .bind(signed(earliest.0))
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query(
            "SELECT epoch, position, last_seq, published_seq FROM partitions \
             WHERE topic = ? AND `partition` = ?",
        )
        .bind(topic)
        .bind(partition.0)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Taken::of(&row, partition)?)
    }
}

/// Moves a partition on, if its owner and its place are those named. Returns whether it did:
/// `false` means that this very step has committed before, and nothing is left to do.
///
/// It waits for a step of the same partition that is under way, also for one whose commit nobody
/// heard of: so it is what looks up whether that one is in effect.
pub(super) async fn advance(tx: &mut MySqlConnection, step: &Advance<'_>) -> Result<bool, Failure> {
    let Advance { topic, fence: Fence { partition, epoch }, span, published, .. } = step;
    let (first, last) = step.numbers();
    let moved = sqlx::query(
        "UPDATE partitions SET position = ?, last_seq = GREATEST(last_seq, ?), \
         published_seq = GREATEST(published_seq, ?) \
         WHERE topic = ? AND `partition` = ? AND epoch = ? AND position = ? AND last_seq < ?",
    )
    .bind(signed(span.to.0))
    .bind(last)
    .bind(signed(published.0))
    .bind(*topic)
    .bind(partition.0)
    .bind(signed(epoch.0))
    .bind(signed(span.from.0))
    .bind(first)
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(true);
    }
    let found = sqlx::query(
        "SELECT epoch, position, last_seq FROM partitions WHERE topic = ? AND `partition` = ?",
    )
    .bind(*topic)
    .bind(partition.0)
    .fetch_optional(tx)
    .await?;
    step.judge(found.as_ref())?;
    Ok(false)
}

/// Keeps records that do not decode, once each.
pub(super) async fn set_aside(
    tx: &mut MySqlConnection,
    dead: &[DeadRecord],
) -> Result<(), Failure> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO dead_records \
               (topic, `partition`, `offset`, reason, `key`, value, set_aside_ms) VALUES",
        row: concat!("(?, ?, ?, ?, ?, ?, ", now_ms!(), ")"),
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE id = id",
    };
    // A record may be large: few in a statement, that none is longer than the server takes.
    for piece in dead.chunks(8).flat_map(padded) {
        let mut insert = INSERT.of(piece.len());
        for record in piece {
            insert = insert
                .bind(record.topic.clone())
                .bind(record.partition.0)
                .bind(signed(record.offset.0))
                .bind(record.reason.clone())
                .bind(record.key.as_deref().map(<[u8]>::to_vec))
                .bind(record.value.to_vec());
        }
        insert.execute(&mut *tx).await?;
    }
    Ok(())
}
