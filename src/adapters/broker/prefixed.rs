//! A broker whose topics bear a prefix, so that several installations can share one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, Broker, BrokerError, Placed, Record, Topic};
use crate::pipeline::cluster::{ClusterReport, ClusterView, Difference};

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

    fn behind(&self) -> Result<&dyn ClusterReport, BrokerError> {
        self.broker.cluster().ok_or_else(|| BrokerError::Permanent("it is no cluster".to_owned()))
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

    fn cluster(&self) -> Option<&dyn ClusterReport> {
        self.broker.cluster().map(|_| self as &dyn ClusterReport)
    }
}

#[async_trait]
impl ClusterReport for Prefixed {
    async fn describe(&self, topics: &[&str]) -> Result<ClusterView, BrokerError> {
        let names: Vec<String> = topics.iter().map(|topic| self.name(topic)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut view = self.behind()?.describe(&names).await?;
        for topic in &mut view.topics {
            if let Some(name) = topic.name.strip_prefix(&self.prefix) {
                topic.name = name.to_owned();
            }
        }
        Ok(view)
    }

    async fn differences(
        &self,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<Difference>, BrokerError> {
        self.behind()?.differences(&self.name(topic), partitions).await
    }

    fn min_insync_replicas(&self) -> usize {
        self.broker.cluster().map_or(1, ClusterReport::min_insync_replicas)
    }

    async fn grow(&self, topic: &str, total: u32) -> Result<(), BrokerError> {
        self.behind()?.grow(&self.name(topic), total).await
    }
}
