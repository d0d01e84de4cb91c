//! The cluster as the admin node and operators see it.

use async_trait::async_trait;

use super::{KafkaBroker, configs};
use crate::pipeline::broker::BrokerError;
use crate::pipeline::cluster::{ClusterReport, ClusterView, Difference, TopicView};

#[async_trait]
impl ClusterReport for KafkaBroker {
    async fn describe(&self, topics: &[&str]) -> Result<ClusterView, BrokerError> {
        Ok(self.shared.cluster.describe(Some(topics)).await?)
    }

    async fn differences(
        &self,
        topic: &str,
        partitions: u32,
    ) -> Result<Vec<Difference>, BrokerError> {
        let Some(view) = self.shared.cluster.topic(topic).await? else { return Ok(Vec::new()) };
        let found = self.shared.cluster.topic_configs(topic).await?;
        let wanted = &self.shared.options.topic;
        let mut differences = Vec::new();
        let mut compare = |key: &str, found: String, wanted: String| {
            if found != wanted {
                differences.push(Difference { key: key.to_owned(), found, wanted });
            }
        };
        compare("partitions", view.partitions.len().to_string(), partitions.to_string());
        let copies = copies(&view).to_string();
        compare("replication.factor", copies, wanted.replication_factor.to_string());
        for (key, wanted) in configs(wanted) {
            let found = found.get(key).map_or("nothing", String::as_str);
            compare(key, found.to_owned(), wanted);
        }
        Ok(differences)
    }

    fn min_insync_replicas(&self) -> usize {
        self.shared.options.topic.min_insync_replicas.into()
    }

    async fn grow(&self, topic: &str, total: u32) -> Result<(), BrokerError> {
        Ok(self.shared.cluster.grow_topic(topic, total).await?)
    }
}

/// The copies that every partition has; the fewest, where they differ.
fn copies(topic: &TopicView) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0)
}
