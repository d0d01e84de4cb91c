//! The broker in memory, for tests and benchmarks: everything is gone with the process.
//!
//! Records are encoded and decoded as if they went over a wire.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{Batch, Batches, Page};
use super::positions::Positions;
use super::{check_partitions, check_size, codec, count, lock};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, Broker, BrokerError, Placed, Record, Topic, TopicId};

/// How much a [`MemoryBroker`] holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryBrokerOptions {
    /// Bytes of records in all topics together. Beyond, those that every group has passed are
    /// dropped; when there are none, appends fail.
    pub retention_bytes: u64,
    /// Bytes of records in one append.
    pub batch_bytes_max: usize,
}

impl Default for MemoryBrokerOptions {
    fn default() -> Self {
        Self { retention_bytes: 256 * 1_024 * 1_024, batch_bytes_max: 1_024 * 1_024 }
    }
}

/// A broker within the process.
#[derive(Debug)]
pub struct MemoryBroker {
    options: MemoryBrokerOptions,
    state: Mutex<State>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<String, Logs>,
    used: u64,
}

/// A topic.
#[derive(Debug)]
struct Logs {
    id: TopicId,
    partitions: Vec<Log>,
    positions: Positions,
}

impl Logs {
    fn topic(&self) -> Topic {
        Topic { partitions: count(&self.partitions), id: self.id }
    }
}

#[derive(Debug, Default)]
struct Log {
    batches: Batches,
    end: watch::Sender<Offset>,
}

impl Log {
    fn bounds(&self) -> Bounds {
        Bounds { first: self.batches.first(), end: self.batches.end() }
    }
}

impl State {
    fn log(&mut self, topic: &str, partition: Partition) -> Result<&mut Log, BrokerError> {
        self.topics
            .get_mut(topic)
            .and_then(|topic| topic.partitions.get_mut(partition.0 as usize))
            .ok_or_else(|| BrokerError::Unknown { topic: topic.to_owned(), partition })
    }

    /// Drops batches that every group has passed until `size` more bytes fit.
    fn make_room(&mut self, size: u64, limit: u64) -> Result<(), BrokerError> {
        for topic in self.topics.values_mut() {
            for (number, log) in (0..).zip(&mut topic.partitions) {
                let floor = topic.positions.floor(Partition(number)).unwrap_or(log.batches.end());
                while self.used + size > limit
                    && log.batches.front().is_some_and(|batch| batch.end() <= floor)
                {
                    self.used -= log.batches.pop().map_or(0, |batch| batch.size);
                }
            }
        }
        if self.used + size > limit {
            return Err(BrokerError::Full { used: self.used, limit });
        }
        Ok(())
    }
}

impl MemoryBroker {
    /// An empty broker.
    pub fn new(options: MemoryBrokerOptions) -> Self {
        Self { options, state: Mutex::default(), closed: CancellationToken::new() }
    }

    /// Ends all waiting; every later call returns `Closed`.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Bytes of records in all topics.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.state).used
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if self.closed.is_cancelled() { Err(BrokerError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<Topic, BrokerError> {
        self.check_open()?;
        check_partitions(topic, partitions)?;
        let mut state = lock(&self.state);
        let logs = state.topics.entry(topic.to_owned()).or_insert_with(|| Logs {
            id: TopicId(Uuid::new_v4()),
            partitions: (0..partitions).map(|_| Log::default()).collect(),
            positions: Positions::new(partitions as usize),
        });
        Ok(logs.topic())
    }

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.check_open()?;
        let state = lock(&self.state);
        let unknown = || BrokerError::UnknownTopic(topic.to_owned());
        state.topics.get(topic).map(Logs::topic).ok_or_else(unknown)
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Offset, BrokerError> {
        self.check_open()?;
        let limit = self.options.retention_bytes;
        let fits = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut state = lock(&self.state);
        let base = state.log(topic, partition)?.batches.end();
        if records.is_empty() {
            return Ok(base);
        }
        let size = check_size(&records, self.options.batch_bytes_max.min(fits))? as u64;
        state.make_room(size, limit)?;
        state.used += size;
        let log = state.log(topic, partition)?;
        let body = codec::encode(&records);
        log.batches.push(Batch { base, count: records.len() as u64, size, body });
        log.end.send_replace(log.batches.end());
        Ok(base)
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError> {
        self.check_open()?;
        let batches = {
            let mut state = lock(&self.state);
            let log = state.log(topic, partition)?;
            let bounds = log.bounds();
            if from < bounds.first || from > bounds.end {
                return Err(BrokerError::OutOfRange { offset: from, bounds });
            }
            log.batches.select(from, bytes_max)
        };
        let mut page = Page::new(from, bytes_max);
        for batch in &batches {
            match page.take(batch) {
                Ok(true) => {}
                Ok(false) => break,
                Err(codec::Malformed) => {
                    return Err(BrokerError::Permanent(format!(
                        "the batch at offset {} of {topic}/{partition} is damaged",
                        batch.base
                    )));
                }
            }
        }
        Ok(page.finish())
    }

    async fn wait(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.check_open()?;
        let mut end = lock(&self.state).log(topic, partition)?.end.subscribe();
        let passed = end.wait_for(|end| *end > offset);
        // The sender lives as long as `self`, so the wait itself cannot fail.
        let waited = self.closed.run_until_cancelled(passed).await;
        waited.map(drop).ok_or(BrokerError::Closed)
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, BrokerError> {
        self.check_open()?;
        Ok(lock(&self.state).log(topic, partition)?.bounds())
    }

    async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.check_open()?;
        let mut state = lock(&self.state);
        // A position past the end must not release records that are yet to come.
        let offset = offset.min(state.log(topic, partition)?.batches.end());
        match state.topics.get_mut(topic) {
            Some(topic) => topic.positions.set(group, partition, offset).map(drop),
            None => Err(BrokerError::Unknown { topic: topic.to_owned(), partition }),
        }
    }
}
