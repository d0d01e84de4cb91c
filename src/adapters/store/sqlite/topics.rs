//! Which topics there are: how many partitions they have, and which logs the positions are of.

use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::SqliteStore;
use crate::adapters::store::TICKS_TOPIC;
use crate::model::{Partition, Symbol};
use crate::pipeline::broker::{self, Topic, TopicId};
use crate::pipeline::store::{StoreError, TopicStore};

#[async_trait]
impl TopicStore for SqliteStore {
    async fn adopt_topic(&self, topic: &str, found: Topic) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        // One that was known before topics had ids gets the id that it is found with.
        let row = sqlx::query(
            "INSERT INTO topics (topic, partitions, id) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET id = coalesce(id, excluded.id) RETURNING partitions, id",
        )
        .bind(topic)
        .bind(found.partitions)
        .bind(&found.id.0.as_bytes()[..])
        .fetch_one(&mut *tx)
        .await?;
        let topic = topic.to_owned();
        let partitions: u32 = row.try_get(0)?;
        if partitions != found.partitions {
            let (expected, found) = (partitions, found.partitions);
            return Err(StoreError::Partitions { topic, expected, found });
        }
        let id = Uuid::from_slice(row.try_get(1)?).map(TopicId);
        let expected = id.map_err(|error| StoreError::Permanent(error.to_string()))?;
        if expected != found.id {
            return Err(StoreError::Replaced { topic, expected, found: found.id });
        }
        tx.commit().await?;
        self.know_partitions(partitions);
        Ok(())
    }
}

/// How many partitions the topics have, if that is known yet.
pub(super) async fn known_partitions(
    connection: &mut SqliteConnection,
) -> Result<Option<u32>, StoreError> {
    let known = sqlx::query_scalar("SELECT partitions FROM topics WHERE topic = ?")
        .bind(TICKS_TOPIC)
        .fetch_optional(connection)
        .await?;
    Ok(known)
}

impl SqliteStore {
    pub(super) fn know_partitions(&self, partitions: u32) {
        let unread = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        self.inner.changes_read.get_or_init(unread);
    }

    /// How many partitions each topic has.
    pub(super) fn partitions(&self) -> Result<u32, StoreError> {
        let Some(known) = self.inner.changes_read.get() else {
            return Err(StoreError::Permanent(
                "it is not known yet how many partitions there are: start `tripline serve` on it \
                 once"
                    .to_owned(),
            ));
        };
        Ok(u32::try_from(known.len()).unwrap_or(u32::MAX))
    }

    /// The partition of a symbol's ticks.
    pub(super) fn partition_of(&self, symbol: Symbol) -> Result<Partition, StoreError> {
        Ok(broker::partition_of(symbol.as_bytes(), self.partitions()?))
    }
}
