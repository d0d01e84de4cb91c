//! What the admin node says of the cluster behind the log: in its log, and as metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::metrics::{KafkaBroker, Metrics, Topic};
use crate::pipeline::cluster::{ClusterReport, ClusterView, PartitionView, TopicView};
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

const TOPICS: [&str; 2] = [TICKS_TOPIC, ALERTS_TOPIC];

/// Warns about each topic that is there already and differs from what the options want.
pub(super) async fn compare(cluster: &dyn ClusterReport, partitions: u32) {
    for topic in TOPICS {
        match cluster.differences(topic, partitions).await {
            Ok(differences) => {
                for difference in differences {
                    let (key, found, wanted) =
                        (difference.key, difference.found, difference.wanted);
                    tracing::warn!(topic, key, found, wanted, "an existing topic differs");
                }
            }
            Err(error) => tracing::warn!(topic, "the topic's configs are not known: {error}"),
        }
    }
}

/// Says each broker and each partition.
pub(super) async fn report(cluster: &dyn ClusterReport) {
    let view = match cluster.describe(&TOPICS).await {
        Ok(view) => view,
        Err(error) => return tracing::warn!("the cluster does not answer: {error}"),
    };
    for broker in &view.brokers {
        tracing::info!(id = broker.id, host = broker.host, port = broker.port, "broker");
    }
    for topic in &view.topics {
        for partition in &topic.partitions {
            let PartitionView { partition, leader, replicas, in_sync, .. } = partition;
            let topic = topic.name.as_str();
            tracing::info!(topic, %partition, leader, ?replicas, isr = ?in_sync, "partition");
        }
    }
}

/// The cluster as metrics. Brokers that were seen once stay, so that one that left shows 0.
#[derive(Default)]
pub(super) struct Gauges {
    seen: Mutex<BTreeSet<i32>>,
}

impl Gauges {
    pub(super) async fn refresh(&self, cluster: &dyn ClusterReport, metrics: &Metrics) {
        let view = match cluster.describe(&TOPICS).await {
            Ok(view) => view,
            Err(error) => {
                tracing::debug!("the cluster does not answer: {error}");
                return set(metrics.kafka_brokers.get_or_create(&[]), 0);
            }
        };
        set(metrics.kafka_brokers.get_or_create(&[]), view.brokers.len());
        for topic in &view.topics {
            count(topic, cluster.min_insync_replicas(), metrics);
        }
        for (broker, partitions) in self.led(&view) {
            let label = KafkaBroker { broker };
            set(metrics.kafka_leader_partitions.get_or_create(&label), partitions);
        }
    }

    /// How many partitions each broker leads that is there or was seen before.
    fn led(&self, view: &ClusterView) -> BTreeMap<i32, usize> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(view.brokers.iter().map(|broker| broker.id));
        let mut led: BTreeMap<i32, usize> = seen.iter().map(|broker| (*broker, 0)).collect();
        for leader in partitions(view).filter_map(|partition| partition.leader) {
            *led.entry(leader).or_default() += 1;
        }
        led
    }
}

fn partitions(view: &ClusterView) -> impl Iterator<Item = &PartitionView> {
    view.topics.iter().flat_map(|topic| &topic.partitions)
}

fn count(topic: &TopicView, min_insync_replicas: usize, metrics: &Metrics) {
    let count = |is: &dyn Fn(&PartitionView) -> bool| {
        topic.partitions.iter().filter(|partition| is(partition)).count()
    };
    let label = Topic { topic: topic.name.clone() };
    for (family, partitions) in [
        (
            &metrics.kafka_partitions_under_replicated,
            count(&|partition| partition.in_sync.len() < partition.replicas.len()),
        ),
        (
            &metrics.kafka_partitions_under_min_isr,
            count(&|partition| partition.in_sync.len() < min_insync_replicas),
        ),
        (&metrics.kafka_partitions_offline, count(&|partition| partition.leader.is_none())),
    ] {
        set(family.get_or_create(&label), partitions);
    }
}

fn set(gauge: impl std::ops::Deref<Target = prometheus_client::metrics::gauge::Gauge>, to: usize) {
    gauge.set(i64::try_from(to).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use uuid::Uuid;

    use super::*;
    use crate::model::Partition;
    use crate::pipeline::broker::BrokerError;
    use crate::pipeline::cluster::{BrokerNode, Difference};

    struct Fixed(Mutex<Result<ClusterView, BrokerError>>);

    #[async_trait]
    impl ClusterReport for Fixed {
        async fn describe(&self, _: &[&str]) -> Result<ClusterView, BrokerError> {
            self.0.lock().unwrap().clone()
        }

        async fn differences(&self, _: &str, _: u32) -> Result<Vec<Difference>, BrokerError> {
            Ok(Vec::new())
        }

        fn min_insync_replicas(&self) -> usize {
            2
        }

        async fn grow(&self, _: &str, _: u32) -> Result<(), BrokerError> {
            Ok(())
        }
    }

    fn view(brokers: &[i32], partitions: &[(Option<i32>, &[i32])]) -> ClusterView {
        let node = |id: &i32| BrokerNode { id: *id, host: "kafka".to_owned(), port: 9092 };
        let partition = |(number, (leader, in_sync)): (u32, &(Option<i32>, &[i32]))| {
            let (replicas, in_sync) = (vec![1, 2, 3], in_sync.to_vec());
            PartitionView {
                partition: Partition(number),
                leader: *leader,
                replicas,
                in_sync,
                offline: Vec::new(),
            }
        };
        let partitions = (0..).zip(partitions).map(partition).collect();
        let topic = TopicView { name: TICKS_TOPIC.to_owned(), id: Uuid::nil(), partitions };
        ClusterView { brokers: brokers.iter().map(node).collect(), topics: vec![topic] }
    }

    #[tokio::test]
    async fn the_cluster_is_counted_and_a_broker_that_left_shows_0() {
        let metrics = Metrics::new("host-1");
        assert!(!metrics.page().contains("kafka_brokers"));
        let whole: &[i32] = &[1, 2, 3];
        let cluster = Fixed(Mutex::new(Ok(view(whole, &[(Some(1), whole), (Some(3), whole)]))));
        let gauges = Gauges::default();
        gauges.refresh(&cluster, &metrics).await;
        let check = |lines: &[&str]| {
            let page = metrics.page();
            for line in lines {
                assert!(page.contains(&format!("\ntripline_kafka_{line}\n")), "{line}\n{page}");
            }
        };
        check(&[
            "brokers{} 3",
            "leader_partitions{broker=\"1\"} 1",
            "leader_partitions{broker=\"2\"} 0",
            "partitions_under_replicated{topic=\"to-alert-system\"} 0",
        ]);
        *cluster.0.lock().unwrap() = Ok(view(&[1, 2], &[(Some(1), &[1]), (None, &[])]));
        gauges.refresh(&cluster, &metrics).await;
        check(&[
            "brokers{} 2",
            "leader_partitions{broker=\"3\"} 0",
            "partitions_under_replicated{topic=\"to-alert-system\"} 2",
            "partitions_under_min_isr{topic=\"to-alert-system\"} 2",
            "partitions_offline{topic=\"to-alert-system\"} 1",
        ]);
        *cluster.0.lock().unwrap() = Err(BrokerError::Transient("gone".to_owned()));
        gauges.refresh(&cluster, &metrics).await;
        check(&["brokers{} 0"]);
    }
}
