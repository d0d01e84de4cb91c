//! Kafka as the broker: rskafka produces and fetches, a small client of our own does the rest.
//!
//! Appends are acknowledged by all in-sync replicas. There is no idempotent producer: records
//! whose append was repeated after an unknown outcome may be there twice, next to each other.

mod committer;
mod convert;
mod failure;
mod link;
mod options;
mod producer;
mod reader;
mod report;
mod security;
mod tail;
pub mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{check_partitions, check_size, count, lock};
use crate::metrics::Metrics;
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, Broker, BrokerError, Placed, Record, Topic, TopicId};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::cluster::ClusterReport;
use committer::Committer;
use link::Link;
pub use options::{Compression, KafkaOptions, ProducerOptions, SaslMechanism, TopicConfig};
use producer::Producer;
use reader::Reader;
use wire::Cluster;

/// What all parts of the adapter share.
struct Shared {
    options: Arc<KafkaOptions>,
    cluster: Arc<Cluster>,
    link: Link,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    metrics: Metrics,
    closed: CancellationToken,
}

impl Shared {
    /// Waits before an attempt is repeated for the `attempt`th time, from 0.
    async fn back_off(&self, attempt: u32) {
        let factor = 2u64.saturating_pow(attempt.min(20));
        let delay = self.options.retry_backoff_ms.saturating_mul(factor);
        let delay = delay.min(self.options.retry_backoff_ms_max.max(1));
        self.clock.sleep(self.random.jitter(Duration::from_millis(delay))).await;
    }
}

type Place = (String, u32);

/// A Kafka cluster.
pub struct KafkaBroker {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
    /// The partitions of the topics that are known to exist.
    topics: Mutex<HashMap<String, u32>>,
    producers: Mutex<HashMap<Place, Producer>>,
    readers: Mutex<HashMap<Place, Arc<Reader>>>,
}

impl KafkaBroker {
    /// Connects to nothing yet. `Permanent` if the options cannot work.
    pub fn new(
        options: KafkaOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Metrics,
    ) -> Result<Self, BrokerError> {
        options.check()?;
        let options = Arc::new(options);
        let shared = Arc::new(Shared {
            cluster: Arc::new(Cluster::new(&options).map_err(BrokerError::Permanent)?),
            link: Link::new(options.clone()).map_err(BrokerError::Permanent)?,
            options,
            clock,
            random,
            metrics,
            closed: CancellationToken::new(),
        });
        let committer = Arc::new(Committer::default());
        let (closed, run) = (shared.closed.clone(), committer.clone().run(shared.clone()));
        tokio::spawn(async move {
            closed.run_until_cancelled(run).await;
        });
        Ok(Self {
            shared,
            committer,
            topics: Mutex::default(),
            producers: Mutex::default(),
            readers: Mutex::default(),
        })
    }

    /// A client of the cluster, for what the ports do not offer.
    pub fn wire(&self) -> Arc<Cluster> {
        self.shared.cluster.clone()
    }

    /// Commits the groups' last offsets and ends everything; every later call returns `Closed`.
    pub async fn close(&self) {
        if !self.shared.closed.is_cancelled() {
            self.shared.closed.cancel();
            // Kafka's tools then show the groups where they stand; nothing depends on it.
            let flush = self.committer.flush(&self.shared, true);
            let _ = tokio::time::timeout(self.shared.options.request_timeout(), flush).await;
        }
    }

    fn check_open(&self) -> Result<(), BrokerError> {
        if self.shared.closed.is_cancelled() { Err(BrokerError::Closed) } else { Ok(()) }
    }

    /// Runs a call until the broker is closed.
    async fn open<T>(
        &self,
        call: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.check_open()?;
        let closed = Err(BrokerError::Closed);
        self.shared.closed.run_until_cancelled(call).await.unwrap_or(closed)
    }

    /// Refuses partitions that do not exist. Brokers are asked only about what is not known, and
    /// never in a way that makes them create a topic.
    async fn check_known(&self, topic: &str, partition: Partition) -> Result<(), BrokerError> {
        let known = |partitions: &u32| partition.0 < *partitions;
        if lock(&self.topics).get(topic).is_some_and(known) {
            return Ok(());
        }
        let unknown = || BrokerError::Unknown { topic: topic.to_owned(), partition };
        let found = self.shared.cluster.topic(topic).await?.ok_or_else(unknown)?;
        let partitions = view(&found).partitions;
        lock(&self.topics).insert(topic.to_owned(), partitions);
        if known(&partitions) { Ok(()) } else { Err(unknown()) }
    }

    fn reader(&self, topic: &str, partition: Partition) -> Arc<Reader> {
        let mut readers = lock(&self.readers);
        let place = (topic.to_owned(), partition.0);
        readers
            .entry(place)
            .or_insert_with(|| Reader::new(self.shared.clone(), topic, partition))
            .clone()
    }

    fn producer(&self, topic: &str, partition: Partition) -> Producer {
        let reader = self.reader(topic, partition);
        let mut producers = lock(&self.producers);
        let place = (topic.to_owned(), partition.0);
        producers
            .entry(place)
            .or_insert_with(|| Producer::start(self.shared.clone(), topic, partition, reader))
            .clone()
    }

    /// Waits until every partition of a topic has a leader.
    async fn await_leaders(&self, topic: &str) -> Result<Topic, BrokerError> {
        let limit = self.shared.options.request_timeout();
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let found = self.shared.cluster.topic(topic).await?;
            let led = |found: &wire::TopicView| {
                !found.partitions.is_empty() && found.partitions.iter().all(|p| p.leader.is_some())
            };
            if let Some(found) = found.filter(led) {
                let found = view(&found);
                lock(&self.topics).insert(topic.to_owned(), found.partitions);
                return Ok(found);
            }
            if started.elapsed() > limit {
                return Err(BrokerError::Transient(format!(
                    "not every partition of {topic} has a leader after {limit:?}"
                )));
            }
            self.shared.back_off(attempt).await;
            attempt += 1;
        }
    }
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

fn view(found: &wire::TopicView) -> Topic {
    Topic { partitions: count(&found.partitions), id: TopicId(found.id) }
}

/// The configs that a topic is created with.
fn configs(topic: &TopicConfig) -> Vec<(&'static str, String)> {
    let retention = topic.retention_ms.map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
    vec![
        ("min.insync.replicas", topic.min_insync_replicas.to_string()),
        ("retention.ms", retention),
        ("cleanup.policy", topic.cleanup_policy.clone()),
        // A record's time is its producer's.
        ("message.timestamp.type", "CreateTime".to_owned()),
    ]
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<Topic, BrokerError> {
        self.open(async {
            check_partitions(topic, partitions)?;
            let config = &self.shared.options.topic;
            let copies = config.replication_factor;
            let cluster = &self.shared.cluster;
            if cluster.topic(topic).await?.is_none() {
                cluster.create_topic(topic, partitions, copies, &configs(config)).await?;
            }
            self.await_leaders(topic).await
        })
        .await
    }

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.open(async {
            let unknown = || BrokerError::UnknownTopic(topic.to_owned());
            self.shared.cluster.topic(topic).await?.map(|found| view(&found)).ok_or_else(unknown)
        })
        .await
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Offset, BrokerError> {
        self.open(async {
            self.check_known(topic, partition).await?;
            if records.is_empty() {
                return Ok(self.reader(topic, partition).bounds().await?.end);
            }
            let size = check_size(&records, self.shared.options.batch_bytes_max)?;
            self.producer(topic, partition).append(records, size).await
        })
        .await
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError> {
        self.open(async {
            self.check_known(topic, partition).await?;
            self.reader(topic, partition).read(from, bytes_max).await
        })
        .await
    }

    async fn wait(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.open(async {
            self.check_known(topic, partition).await?;
            self.reader(topic, partition).wait(offset).await
        })
        .await
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, BrokerError> {
        self.open(async {
            self.check_known(topic, partition).await?;
            self.reader(topic, partition).bounds().await
        })
        .await
    }

    async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.open(async {
            self.check_known(topic, partition).await?;
            self.committer.note(group, topic, partition, offset);
            Ok(())
        })
        .await
    }

    fn cluster(&self) -> Option<&dyn ClusterReport> {
        Some(self)
    }
}
