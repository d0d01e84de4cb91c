//! Kafka as a broker under the contract: the real server, with topics of a name of their own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions, TopicConfig};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::{Offset, Partition};
use tripline::pipeline::broker::{Bounds, Broker, BrokerError, Placed, Record, Topic};

use crate::support::{Fixture, Limits};

/// A cluster to run the suite against, and how many copies its topics get.
pub(crate) trait Cluster: Send + Sync + 'static {
    const NAME: &'static str;
    const VARIABLE: &'static str;
    const COPIES: u16;
}

/// One broker.
pub(crate) struct One;

impl Cluster for One {
    const NAME: &'static str = "kafka, one broker";
    const VARIABLE: &'static str = "TRIPLINE_TEST_KAFKA_ONE";
    const COPIES: u16 = 1;
}

/// Three brokers.
pub(crate) struct Three;

impl Cluster for Three {
    const NAME: &'static str = "kafka, three brokers";
    const VARIABLE: &'static str = "TRIPLINE_TEST_KAFKA";
    const COPIES: u16 = 3;
}

fn options<C: Cluster>() -> KafkaOptions {
    KafkaOptions {
        bootstrap: std::env::var(C::VARIABLE).unwrap().split(',').map(str::to_owned).collect(),
        topic: TopicConfig {
            replication_factor: C::COPIES,
            min_insync_replicas: C::COPIES.min(2),
            // The suite's records are older than the default.
            retention_ms: None,
            ..TopicConfig::default()
        },
        ..KafkaOptions::default()
    }
}

/// Kafka under the suite.
pub(crate) struct Kafka<C> {
    prefix: String,
    topics: Arc<Mutex<BTreeSet<String>>>,
    cluster: std::marker::PhantomData<C>,
}

impl<C: Cluster> Fixture for Kafka<C> {
    type Broker = Named;
    const NAME: &'static str = C::NAME;
    const DURABLE: bool = true;
    const BOUNDED: bool = false;
    const HEADERS_REPEAT: bool = false;

    fn new() -> Self {
        let prefix = format!("contract-{}-", uuid::Uuid::new_v4());
        Self { prefix, topics: Arc::default(), cluster: std::marker::PhantomData }
    }

    async fn open(&self, limits: Limits) -> Arc<Named> {
        let options = KafkaOptions { batch_bytes_max: limits.batch_bytes_max, ..options::<C>() };
        let random = Arc::new(SeededRandom::from_host());
        let broker = KafkaBroker::new(options, Arc::new(SystemClock), random, Metrics::new("test"));
        Arc::new(Named {
            broker: broker.unwrap(),
            prefix: self.prefix.clone(),
            topics: self.topics.clone(),
        })
    }

    async fn close(&self, broker: &Named) {
        broker.broker.close().await;
    }

    async fn end(&self) {
        let cluster = tripline::adapters::broker::kafka::wire::Cluster::new(&options::<C>());
        let topics = std::mem::take(&mut *self.topics.lock().unwrap());
        for topic in &topics {
            cluster.as_ref().unwrap().delete_topic(topic).await.unwrap();
        }
    }
}

/// A broker whose topics all get a prefix, because the cluster is there before and after.
pub(crate) struct Named {
    broker: KafkaBroker,
    prefix: String,
    topics: Arc<Mutex<BTreeSet<String>>>,
}

impl Named {
    fn topic(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    fn unnamed<T>(&self, result: Result<T, BrokerError>) -> Result<T, BrokerError> {
        result.map_err(|error| match error {
            BrokerError::Unknown { topic, partition } => {
                let topic = topic.strip_prefix(&self.prefix).unwrap_or(&topic).to_owned();
                BrokerError::Unknown { topic, partition }
            }
            BrokerError::UnknownTopic(topic) => {
                let topic = topic.strip_prefix(&self.prefix).unwrap_or(&topic).to_owned();
                BrokerError::UnknownTopic(topic)
            }
            other => other,
        })
    }
}

#[async_trait]
impl Broker for Named {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<Topic, BrokerError> {
        let name = self.topic(topic);
        let created = self.broker.create_topic(&name, partitions).await;
        if created.is_ok() {
            self.topics.lock().unwrap().insert(name);
        }
        self.unnamed(created)
    }

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.unnamed(self.broker.topic(&self.topic(topic)).await)
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Offset, BrokerError> {
        self.unnamed(self.broker.append(&self.topic(topic), partition, records).await)
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError> {
        self.unnamed(self.broker.read(&self.topic(topic), partition, from, bytes_max).await)
    }

    async fn wait(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.unnamed(self.broker.wait(&self.topic(topic), partition, offset).await)
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, BrokerError> {
        self.unnamed(self.broker.bounds(&self.topic(topic), partition).await)
    }

    async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.unnamed(self.broker.commit(group, &self.topic(topic), partition, offset).await)
    }
}

/// Runs the suite if the cluster is there, and says so if it is not.
pub(crate) async fn run<C: Cluster>() {
    if std::env::var_os(C::VARIABLE).is_some() {
        return crate::suite::run::<Kafka<C>>().await;
    }
    let required = std::env::var("TRIPLINE_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "kafka"), "{} is not set", C::VARIABLE);
    crate::support::not_run(&format!("{}: {} is not set", C::NAME, C::VARIABLE));
}
