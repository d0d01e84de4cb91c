//! Retention: dropping what every group has passed, by age and by size; saving positions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqliteTransaction};
use sqlx::{Connection, QueryBuilder, Sqlite};

use super::partition::{Part, Shared, Topic};
use super::schema::{from_sql, to_sql};
use super::writer::Writer;
use crate::adapters::broker::lock;
use crate::model::{Offset, Timestamp};
use crate::pipeline::broker::BrokerError;

/// Batches that one sweep drops at the most, so that appends get their turn in between.
const DROPS_MAX: usize = 4_096;
/// Batches of one partition that are looked at together.
const HEADS_LEN: i64 = 256;

/// The oldest batches of each partition, by its id, so that a log that is full does not ask the
/// file with every append whether anything can go.
pub(super) type Heads = HashMap<i64, VecDeque<Head>>;

/// What retention must know about a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    end: Offset,
    bytes: u64,
    appended: Timestamp,
}

/// A partition from which something may go.
struct Candidate {
    part: Arc<Part>,
    floor: Offset,
    first: Offset,
    bytes: u64,
}

impl Writer {
    /// Drops batches that every group has passed: those that are too old and, if `room` more
    /// bytes would not fit, the oldest. Saves the positions as well. Returns whether there may
    /// be more to drop.
    pub(super) async fn sweep(&mut self, room: u64) -> Result<bool, BrokerError> {
        match self.try_sweep(room).await {
            Ok(more) => Ok(more),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn try_sweep(&mut self, room: u64) -> Result<bool, sqlx::Error> {
        let shared = Arc::clone(&self.shared);
        let mut candidates = candidates(&shared);
        let drops = self.choose(&mut candidates, room).await?;
        candidates.retain(|candidate| candidate.bytes > 0);
        self.store(&candidates).await?;
        for Candidate { part, first, bytes, .. } in candidates {
            shared.used.fetch_sub(bytes, Ordering::Relaxed);
            part.dropped(first, bytes);
        }
        Ok(drops == DROPS_MAX)
    }

    /// Moves the candidates' first offsets past what should go, the oldest batch first.
    async fn choose(
        &mut self,
        candidates: &mut [Candidate],
        room: u64,
    ) -> Result<usize, sqlx::Error> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.options.retention_bytes;
        let mut used = shared.used.load(Ordering::Relaxed);
        // When it is full it makes more room than this group needs: otherwise every later group
        // would pay for a second transaction.
        let target = if used + room > limit { limit - limit / 16 } else { u64::MAX };
        let age = shared.options.retention_age_s;
        let now = shared.clock.now();
        let expired = |head: &Head| age > 0 && now.since(head.appended) >= Duration::from_secs(age);

        let mut drops = 0;
        while drops < DROPS_MAX {
            let over = used + room > target;
            let mut oldest: Option<(usize, Head)> = None;
            for (index, candidate) in candidates.iter().enumerate() {
                let Some(head) = self.head(candidate).await? else { continue };
                let goes = head.end <= candidate.floor && (over || expired(&head));
                if goes && oldest.is_none_or(|(_, found)| head.appended < found.appended) {
                    oldest = Some((index, head));
                }
            }
            let Some((index, head)) = oldest else { break };
            let candidate = &mut candidates[index];
            if let Some(heads) = self.heads.get_mut(&candidate.part.id) {
                heads.pop_front();
            }
            candidate.first = head.end;
            candidate.bytes += head.bytes;
            used = used.saturating_sub(head.bytes);
            drops += 1;
        }
        Ok(drops)
    }

    /// The oldest batch that a candidate still has.
    async fn head(&mut self, candidate: &Candidate) -> Result<Option<Head>, sqlx::Error> {
        if candidate.first >= candidate.floor {
            return Ok(None);
        }
        let id = candidate.part.id;
        if let Some(head) = self.heads.get(&id).and_then(VecDeque::front) {
            return Ok(Some(*head));
        }
        let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT base + records, bytes, appended_ms FROM batch \
             WHERE partition = ? AND base >= ? ORDER BY base LIMIT ?",
        )
        .bind(id)
        .bind(to_sql(candidate.first.0))
        .bind(HEADS_LEN)
        .fetch_all(self.connection().await?)
        .await?;
        let heads: VecDeque<Head> = rows
            .into_iter()
            .map(|(end, bytes, appended)| Head {
                end: Offset(from_sql(end)),
                bytes: from_sql(bytes),
                appended: Timestamp::from_millis(appended).unwrap_or_default(),
            })
            .collect();
        let front = heads.front().copied();
        self.heads.insert(id, heads);
        Ok(front)
    }

    /// Forgets all groups but one, in memory and in the file.
    pub(super) async fn keep_group(&mut self, group: &str) -> Result<(), sqlx::Error> {
        let topics = self.shared.topics();
        let connection = self.connection().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for topic in topics {
            let forgotten = lock(&topic.positions).keep(group);
            if !forgotten.is_empty() {
                tracing::info!(group, ?forgotten, "the log keeps nothing for other groups");
                save(&mut transaction, &topic).await?;
            }
        }
        sqlx::query("DELETE FROM position WHERE consumer <> ?")
            .bind(group)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Saves the groups' positions.
    pub(super) async fn save_positions(&mut self) -> Result<(), BrokerError> {
        match self.store(&[]).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Drops from the file what the candidates have passed, and saves positions that moved.
    async fn store(&mut self, dropped: &[Candidate]) -> Result<(), sqlx::Error> {
        let shared = Arc::clone(&self.shared);
        let mut moved = shared.topics();
        moved.retain(|topic| topic.moved.swap(false, Ordering::AcqRel));
        if dropped.is_empty() && moved.is_empty() {
            return Ok(());
        }
        let stored = match self.connection().await {
            Ok(connection) => store(connection, dropped, &moved).await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            moved.iter().for_each(|topic| topic.moved.store(true, Ordering::Release));
        }
        stored
    }
}

/// Every partition that holds something which no group needs.
fn candidates(shared: &Shared) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for topic in shared.topics() {
        let positions = lock(&topic.positions);
        for part in &topic.partitions {
            let extent = part.extent();
            let floor = positions.floor(part.number).unwrap_or(extent.end).min(extent.end);
            if extent.first < floor {
                let part = Arc::clone(part);
                candidates.push(Candidate { part, floor, first: extent.first, bytes: 0 });
            }
        }
    }
    candidates
}

async fn store(
    connection: &mut SqliteConnection,
    dropped: &[Candidate],
    moved: &[Arc<Topic>],
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for Candidate { part, first, .. } in dropped {
        let end = part.extent().end;
        sqlx::query("UPDATE partition SET end = ? WHERE id = ?")
            .bind(to_sql(end.0))
            .bind(part.id)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM batch WHERE partition = ? AND base < ?")
            .bind(part.id)
            .bind(to_sql(first.0))
            .execute(&mut *transaction)
            .await?;
    }
    for topic in moved {
        save(&mut transaction, topic).await?;
    }
    transaction.commit().await
}

async fn save(transaction: &mut SqliteTransaction<'_>, topic: &Topic) -> Result<(), sqlx::Error> {
    for part in &topic.partitions {
        let positions: Vec<(String, Offset)> = {
            let positions = lock(&topic.positions);
            positions.iter(part.number).map(|(group, next)| (group.to_owned(), next)).collect()
        };
        let mut upsert =
            QueryBuilder::<Sqlite>::new("INSERT INTO position (partition, consumer, next) ");
        upsert.push_values(positions, |mut row, (group, next)| {
            row.push_bind(part.id).push_bind(group).push_bind(to_sql(next.0));
        });
        upsert.push(" ON CONFLICT (partition, consumer) DO UPDATE SET next = excluded.next");
        upsert.build().execute(&mut **transaction).await?;
    }
    Ok(())
}
