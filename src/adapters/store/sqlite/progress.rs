//! What every consumer of a topic commits: where its partition stands, under which epoch, and
//! the records that it set aside.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::bulk::Bulk;
use super::rows::{number, signed};
use super::{SqliteStore, Write};
use crate::model::{AlertSeq, Epoch, Offset, Partition, Timestamp};
use crate::pipeline::store::{DeadRecord, Fence, Span, StoreError};

/// A partition as its new owner finds it.
pub(super) struct Taken {
    pub(super) fence: Fence,
    pub(super) position: Offset,
    pub(super) last: AlertSeq,
    pub(super) published: AlertSeq,
}

/// How far a step brings its partition.
pub(super) struct Advance<'a> {
    pub(super) topic: &'a str,
    pub(super) fence: Fence,
    pub(super) span: Span,
    /// The first and the last number of the alerts that the step makes.
    pub(super) alerts: Option<(AlertSeq, AlertSeq)>,
    pub(super) published: AlertSeq,
}

impl SqliteStore {
    /// Takes a partition over: whoever had it before can commit no more.
    pub(super) async fn take(
        &self,
        topic: &str,
        partition: Partition,
        earliest: Offset,
    ) -> Result<Taken, StoreError> {
        let partitions = self.partitions()?;
        if partition.0 >= partitions {
            return Err(StoreError::Permanent(format!(
                "expected a partition below {partitions} of {topic}, found {partition}"
            )));
        }
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
        Ok(Taken {
            fence: Fence { partition, epoch: Epoch(number(&row, 0)?) },
            position: Offset(number(&row, 1)?),
            last: AlertSeq(number(&row, 2)?),
            published: AlertSeq(number(&row, 3)?),
        })
    }
}

/// Moves a partition on, if its owner and its place are those named. Returns whether it did:
/// `false` means that this very step has committed before, and nothing is left to do.
pub(super) async fn advance(tx: &mut Write, step: &Advance<'_>) -> Result<bool, StoreError> {
    let Advance { topic, fence: Fence { partition, epoch }, span, alerts, published } = step;
    // A step may consume nothing of the log (`from` equals `to`), so where it makes alerts,
    // their numbers tell a first commit from a repeated one.
    let (first, last) = alerts.map_or((i64::MAX, 0), |(a, b)| (signed(a.0), signed(b.0)));
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
    let fenced = StoreError::Fenced { partition: *partition, epoch: *epoch };
    let Some(row) = found else { return Err(fenced) };
    if number(&row, 0)? != epoch.0 {
        return Err(fenced);
    }
    let position = Offset(number(&row, 1)?);
    if position == span.to && alerts.is_none_or(|_| row.get::<i64, _>(2) == last) {
        return Ok(false);
    }
    Err(StoreError::Position { partition: *partition, expected: span.from, found: position })
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
