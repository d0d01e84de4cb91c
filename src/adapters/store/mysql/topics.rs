//! Which topics there are: how many partitions they have, and which logs the positions are of.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Failure, MysqlStore};
use crate::adapters::store::{TICKS_TOPIC, rows};
use crate::model::{Partition, Symbol};
use crate::pipeline::broker::{self, Topic, TopicId};
use crate::pipeline::store::{StoreError, TopicStore};

#[async_trait]
impl TopicStore for MysqlStore {
    async fn adopt_topic(&self, topic: &str, found: Topic) -> Result<(), StoreError> {
        let (partitions, id) = self.attempts(|_| self.adopt(topic, found)).await?;
        let topic = topic.to_owned();
        if partitions != found.partitions {
            let (expected, found) = (partitions, found.partitions);
            return Err(StoreError::Partitions { topic, expected, found });
        }
        if id != found.id {
            return Err(StoreError::Replaced { topic, expected: id, found: found.id });
        }
        self.inner.partitions.store(partitions, Ordering::Relaxed);
        Ok(())
    }
}

impl MysqlStore {
    /// Takes note of a topic that is new; returns what is known of it.
    async fn adopt(&self, topic: &str, found: Topic) -> Result<(u32, TopicId), Failure> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO topics (topic, partitions, id) VALUES (?, ?, ?) \
             ON DUPLICATE KEY UPDATE topic = topic",
        )
        .bind(topic)
        .bind(found.partitions)
        .bind(&found.id.0.as_bytes()[..])
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query("SELECT partitions, id FROM topics WHERE topic = ?")
            .bind(topic)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        let id = Uuid::from_slice(rows::bytes(&row, 1)?).map(TopicId);
        let id = id.map_err(|error| StoreError::Permanent(error.to_string()))?;
        Ok((rows::small(&row, 0)?, id))
    }

    /// How many partitions each topic has.
    pub(super) fn partitions(&self) -> Result<u32, StoreError> {
        match self.inner.partitions.load(Ordering::Relaxed) {
            0 => Err(StoreError::Permanent(
                "it is not known yet how many partitions there are: start `tripline serve` on \
                 it once"
                    .to_owned(),
            )),
            known => Ok(known),
        }
    }

    /// The partition of a symbol's ticks.
    pub(super) fn partition_of(&self, symbol: Symbol) -> Result<Partition, StoreError> {
        Ok(broker::partition_of(symbol.as_bytes(), self.partitions()?))
    }
}

/// How many partitions the topics have; 0 if that is not known yet.
pub(super) async fn known_partitions(
    connection: &mut sqlx::mysql::MySqlConnection,
) -> Result<u32, Failure> {
    let known: Option<i32> = sqlx::query_scalar("SELECT partitions FROM topics WHERE topic = ?")
        .bind(TICKS_TOPIC)
        .fetch_optional(connection)
        .await?;
    Ok(known.unwrap_or(0).cast_unsigned())
}
