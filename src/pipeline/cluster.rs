//! Port: the brokers behind the log and the topics as they keep them, for the admin node.

use async_trait::async_trait;
use uuid::Uuid;

use super::broker::BrokerError;
use crate::model::Partition;

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerNode {
    /// Its id.
    pub id: i32,
    /// Where clients reach it.
    pub host: String,
    /// Where clients reach it.
    pub port: u16,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub partition: Partition,
    /// The broker that leads it, if there is one.
    pub leader: Option<i32>,
    /// The brokers that are to have a copy.
    pub replicas: Vec<i32>,
    /// Those whose copy is complete.
    pub in_sync: Vec<i32>,
    /// Those that are not there.
    pub offline: Vec<i32>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Tells it from a later topic of the same name.
    pub id: Uuid,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionView>,
}

/// The cluster as one of its brokers sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The brokers that are there, in order.
    pub brokers: Vec<BrokerNode>,
    /// The topics that were asked for and exist.
    pub topics: Vec<TopicView>,
}

/// Something about a topic that is not as the options want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, as in `min.insync.replicas`.
    pub key: String,
    /// How it is.
    pub found: String,
    /// How it is to be.
    pub wanted: String,
}

/// A cluster that keeps the log. Calls are cancel-safe.
#[async_trait]
pub trait ClusterReport: Send + Sync + 'static {
    /// The brokers, and those of `topics` that exist.
    async fn describe(&self, topics: &[&str]) -> Result<ClusterView, BrokerError>;

    /// What of a topic that exists differs from the options with which it would be created now.
    async fn differences(
        &self,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<Difference>, BrokerError>;

    /// Copies that must have a record before it counts as appended.
    fn min_insync_replicas(&self) -> usize;

    /// Grows a topic to `total` partitions. Keys go to other partitions from then on: nothing
    /// may be produced, or wait to be read, meanwhile.
    async fn grow(&self, topic: &str, total: u32) -> Result<(), BrokerError>;
}
