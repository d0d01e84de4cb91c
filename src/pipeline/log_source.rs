//! A source that reads one partition of a topic.

use std::sync::Arc;

use async_trait::async_trait;

use super::broker::{Broker, BrokerError, Placed};
use super::stage::{Flow, Source, StageError};
use super::store::{StoreError, TopicStore};
use crate::model::{Offset, Partition};

/// Reads a partition from a position on, and waits at its end for more.
pub struct LogSource {
    broker: Arc<dyn Broker>,
    topic: &'static str,
    partition: Partition,
    position: Offset,
    read_bytes_max: usize,
}

impl LogSource {
    /// Reads from `position`, about `read_bytes_max` bytes at once.
    pub fn new(
        broker: Arc<dyn Broker>,
        topic: &'static str,
        partition: Partition,
        position: Offset,
        read_bytes_max: usize,
    ) -> Self {
        Self { broker, topic, partition, position, read_bytes_max }
    }

    /// The offset of the next record to read.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Appends what there is to `batch`, without waiting.
    pub async fn take<T>(
        &mut self,
        batch: &mut Vec<T>,
        with: impl FnMut(Placed) -> T,
    ) -> Result<usize, StageError> {
        let read = self.broker.read(self.topic, self.partition, self.position, self.read_bytes_max);
        let records = read.await?;
        let taken = records.len();
        if let Some(last) = records.last() {
            self.position = last.offset.next();
        }
        batch.extend(records.into_iter().map(with));
        Ok(taken)
    }

    /// Waits until there is something to take. Cancel-safe.
    pub async fn wait(&self) -> Result<(), StageError> {
        Ok(self.broker.wait(self.topic, self.partition, self.position).await?)
    }
}

#[async_trait]
impl Source for LogSource {
    type Item = Placed;

    async fn next(&mut self, batch: &mut Vec<Placed>) -> Result<Flow, StageError> {
        while self.take(batch, |placed| placed).await? == 0 {
            self.wait().await?;
        }
        Ok(Flow::More)
    }
}

/// Where a partition begins that nobody has owned before: the first offset that its log has.
/// Fails if the topic is not the one that the store's positions are of.
pub async fn earliest(
    broker: &dyn Broker,
    store: &dyn TopicStore,
    topic: &str,
    partition: Partition,
) -> Result<Offset, StageError> {
    let found = broker.topic(topic).await?;
    store.adopt_topic(topic, found).await.map_err(|error| match error {
        StoreError::Replaced { .. } => {
            StageError::Permanent(format!("partition {partition} of {topic} stops: {error}"))
        }
        other => other.into(),
    })?;
    Ok(broker.bounds(topic, partition).await?.first)
}

/// Begins to read at a stored position, which must lie within the log: outside of it, records were
/// lost or it is another log, and nothing is reset in silence.
pub async fn begin_at(
    position: Offset,
    broker: &dyn Broker,
    group: &str,
    topic: &str,
    partition: Partition,
) -> Result<(), StageError> {
    let bounds = broker.bounds(topic, partition).await?;
    if position >= bounds.first && position <= bounds.end {
        // The group is known from here on, so that retention spares what it has not read.
        return Ok(broker.commit(group, topic, partition, position).await?);
    }
    let error = BrokerError::OutOfRange { offset: position, bounds };
    Err(StageError::Permanent(format!(
        "partition {partition} of {topic} stops, because the store's position does not fit the \
         log: {error}. Bring back the log that belongs to this store, or the store that belongs \
         to this log"
    )))
}
