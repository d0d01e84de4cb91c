//! A broker whose topics bear a prefix, so that several installations can share one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, Broker, BrokerError, Placed, Record, Topic};

/// Puts a prefix before the name of every topic.
pub struct Prefixed {
    broker: Arc<dyn Broker>,
    prefix: String,
}

impl Prefixed {
    /// `broker` with `prefix`, or as it is if that is empty.
    pub fn over(broker: Arc<dyn Broker>, prefix: &str) -> Arc<dyn Broker> {
        if prefix.is_empty() {
            return broker;
        }
        Arc::new(Self { broker, prefix: prefix.to_owned() })
    }

    fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }
}

#[async_trait]
impl Broker for Prefixed {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<Topic, BrokerError> {
        self.broker.create_topic(&self.name(topic), partitions).await
    }

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.broker.topic(&self.name(topic)).await
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Offset, BrokerError> {
        self.broker.append(&self.name(topic), partition, records).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError> {
        self.broker.read(&self.name(topic), partition, from, bytes_max).await
    }

    async fn wait(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.broker.wait(&self.name(topic), partition, offset).await
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, BrokerError> {
        self.broker.bounds(&self.name(topic), partition).await
    }

    async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.broker.commit(group, &self.name(topic), partition, offset).await
    }
}
