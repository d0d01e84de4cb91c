//! The cluster as its brokers describe it, and ways to the one that a request is for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::Request;
use tokio::sync::Mutex as AsyncMutex;

use super::connection::{Connection, Credentials, Door};
use super::{WireError, check, text};
use crate::adapters::broker::kafka::options::{KafkaOptions, SaslMechanism};
use crate::adapters::broker::lock;
use crate::model::Partition;
use crate::pipeline::cluster::{BrokerNode, ClusterView, PartitionView, TopicView};

/// A Kafka cluster. Calls are cancel-safe, and may be made side by side; those to one broker wait
/// for each other.
pub struct Cluster {
    door: Door,
    bootstrap: Vec<String>,
    lines: Mutex<HashMap<String, Arc<AsyncMutex<Option<Connection>>>>>,
    map: Mutex<Map>,
}

/// What was last learnt.
#[derive(Default)]
struct Map {
    /// The address that answered last.
    good: Option<String>,
    brokers: BTreeMap<i32, String>,
    leaders: HashMap<(String, u32), i32>,
    coordinators: HashMap<String, String>,
}

impl Cluster {
    /// A cluster to talk to. Nothing is connected yet. The error says what is wrong with the
    /// options.
    pub fn new(options: &KafkaOptions) -> Result<Self, String> {
        let tls = super::super::security::tls(options)?;
        let sasl = match (&options.sasl_mechanism, &options.sasl_username, &options.sasl_password) {
            (SaslMechanism::None, ..) => None,
            (mechanism, username, password) => Some(Credentials {
                mechanism: *mechanism,
                username: username.clone().unwrap_or_default(),
                password: password.clone().unwrap_or_default(),
            }),
        };
        Ok(Self {
            door: Door {
                client_id: options.client_id.clone(),
                tls,
                sasl,
                connect_timeout: options.connect_timeout(),
                request_timeout: options.request_timeout(),
                frame_bytes_max: options.frame_bytes_max(),
            },
            bootstrap: options.bootstrap.clone(),
            lines: Mutex::default(),
            map: Mutex::default(),
        })
    }

    /// How long a request may take.
    pub(super) fn request_timeout(&self) -> Duration {
        self.door.request_timeout
    }

    /// The brokers, and those of `topics` that exist; `None`: all topics.
    pub async fn describe(&self, topics: Option<&[&str]>) -> Result<ClusterView, WireError> {
        let names = topics.map(|topics| {
            topics
                .iter()
                .map(|name| MetadataRequestTopic::default().with_name(Some(TopicName(text(name)))))
                .collect()
        });
        let request =
            MetadataRequest::default().with_topics(names).with_allow_auto_topic_creation(false);
        let answer = self.call_any(&request, 12).await?;
        let view = view(&answer)?;
        self.learn(&view);
        Ok(view)
    }

    /// One topic, if it exists.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicView>, WireError> {
        Ok(self.describe(Some(&[name])).await?.topics.pop())
    }

    fn learn(&self, view: &ClusterView) {
        let mut map = lock(&self.map);
        map.brokers = view
            .brokers
            .iter()
            .map(|broker| (broker.id, address(&broker.host, broker.port)))
            .collect();
        for topic in &view.topics {
            for partition in &topic.partitions {
                let key = (topic.name.clone(), partition.partition.0);
                match partition.leader {
                    Some(leader) => map.leaders.insert(key, leader),
                    None => map.leaders.remove(&key),
                };
            }
        }
        let kept: Vec<String> = self.addresses_of(&map);
        drop(map);
        lock(&self.lines).retain(|address, _| kept.contains(address));
    }

    /// Makes a request that any broker answers, of the first that does.
    pub(super) async fn call_any<R: Request>(
        &self,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, WireError> {
        let addresses = self.addresses_of(&lock(&self.map));
        let mut causes = Vec::new();
        for address in addresses {
            match self.call_at(&address, request, version_max).await {
                Ok(answer) => {
                    lock(&self.map).good = Some(address);
                    return Ok(answer);
                }
                Err(WireError::Unreachable(cause)) => causes.push(cause),
                Err(error) => return Err(error),
            }
        }
        Err(WireError::Unreachable(format!("no broker answers: {}", causes.join("; "))))
    }

    /// Every address there is, the one that answered last first. Those of the options come last,
    /// for when the cluster moved.
    fn addresses_of(&self, map: &Map) -> Vec<String> {
        let mut addresses: Vec<String> = Vec::new();
        for address in map.good.iter().chain(map.brokers.values()).chain(&self.bootstrap) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Makes a request of the leader of a partition; `code` finds the partition's error in the
    /// answer. Asks again who leads it, once, when that is not known or has changed.
    pub(super) async fn call_leader<R: Request>(
        &self,
        (topic, partition): (&str, Partition),
        request: &R,
        version_max: i16,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, WireError> {
        let key = (topic.to_owned(), partition.0);
        let mut refreshed = false;
        loop {
            let error = match self.leader(&key) {
                None => leaderless(topic, partition),
                Some(address) => match self.call_at(&address, request, version_max).await {
                    Ok(answer) => {
                        let what = format!("a request for {topic}/{partition}");
                        match check(code(&answer), &what, None) {
                            Ok(()) => return Ok(answer),
                            Err(error) => error,
                        }
                    }
                    Err(error) => error,
                },
            };
            if refreshed || !error.is_transient() {
                return Err(error);
            }
            refreshed = true;
            lock(&self.map).leaders.remove(&key);
            self.describe(Some(&[topic])).await?;
        }
    }

    /// A connection of the caller's own to the leader of a partition, which is asked for anew.
    pub(super) async fn connect_leader(
        &self,
        topic: &str,
        partition: Partition,
    ) -> Result<Connection, WireError> {
        self.describe(Some(&[topic])).await?;
        let address = self.leader(&(topic.to_owned(), partition.0));
        let address = address.ok_or_else(|| leaderless(topic, partition))?;
        Connection::open(&self.door, &address).await
    }

    /// The address of a partition's leader, as far as is known.
    fn leader(&self, key: &(String, u32)) -> Option<String> {
        let map = lock(&self.map);
        map.leaders.get(key).and_then(|leader| map.brokers.get(leader).cloned())
    }

    /// Makes a request of the coordinator of a group; `code` finds the first error in the answer.
    pub(super) async fn call_coordinator<R: Request>(
        &self,
        group: &str,
        request: &R,
        version_max: i16,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, WireError> {
        let known = lock(&self.map).coordinators.get(group).cloned();
        let address = match known {
            Some(address) => address,
            None => {
                let find = FindCoordinatorRequest::default().with_key(text(group)).with_key_type(0);
                let answer = self.call_any(&find, 3).await?;
                let what = format!("the coordinator of the group {group}");
                check(answer.error_code, &what, answer.error_message.as_ref())?;
                let port = u16::try_from(answer.port).unwrap_or(0);
                let address = address(&answer.host, port);
                lock(&self.map).coordinators.insert(group.to_owned(), address.clone());
                address
            }
        };
        let called = self.call_at(&address, request, version_max).await.and_then(|answer| {
            check(code(&answer), &format!("a request for the group {group}"), None).map(|()| answer)
        });
        if called.as_ref().is_err_and(WireError::is_transient) {
            lock(&self.map).coordinators.remove(group);
        }
        called
    }

    /// Makes a request of the broker at an address. A connection that was idle may be closed by
    /// then, so one that was used before is replaced once.
    async fn call_at<R: Request>(
        &self,
        address: &str,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, WireError> {
        let line = lock(&self.lines).entry(address.to_owned()).or_default().clone();
        let mut held = line.lock().await;
        let limit = self.door.request_timeout;
        loop {
            // Taken out while in use: whatever goes wrong, also cancellation, closes it.
            let (mut connection, used) = match held.take() {
                Some(connection) => (connection, true),
                None => (Connection::open(&self.door, address).await?, false),
            };
            match tokio::time::timeout(limit, connection.call(request, version_max)).await {
                Ok(Ok(answer)) => {
                    *held = Some(connection);
                    return Ok(answer);
                }
                Ok(Err(WireError::Unreachable(_))) if used => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let cause = format!("{address} did not answer within {limit:?}");
                    return Err(WireError::Unreachable(cause));
                }
            }
        }
    }
}

fn leaderless(topic: &str, partition: Partition) -> WireError {
    WireError::Refused {
        what: format!("a request for {topic}/{partition}"),
        error: ResponseError::LeaderNotAvailable,
        message: None,
    }
}

fn address(host: &str, port: u16) -> String {
    format!("{host}:{port}")
}

fn view(answer: &MetadataResponse) -> Result<ClusterView, WireError> {
    let mut brokers: Vec<_> = answer
        .brokers
        .iter()
        .map(|broker| BrokerNode {
            id: broker.node_id.0,
            host: broker.host.to_string(),
            port: u16::try_from(broker.port).unwrap_or(0),
        })
        .collect();
    brokers.sort_by_key(|broker| broker.id);
    let mut topics = Vec::new();
    for topic in &answer.topics {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        match ResponseError::try_from_code(topic.error_code) {
            Some(ResponseError::UnknownTopicOrPartition) => continue,
            _ => check(topic.error_code, &format!("to describe the topic {name}"), None)?,
        }
        topics.push(TopicView { partitions: partitions(topic), id: topic.topic_id, name });
    }
    Ok(ClusterView { brokers, topics })
}

fn partitions(topic: &MetadataResponseTopic) -> Vec<PartitionView> {
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| PartitionView {
            partition: Partition(u32::try_from(partition.partition_index).unwrap_or(u32::MAX)),
            leader: Some(partition.leader_id.0).filter(|leader| *leader >= 0),
            replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
            in_sync: partition.isr_nodes.iter().map(|node| node.0).collect(),
            offline: partition.offline_replicas.iter().map(|node| node.0).collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition.0);
    partitions
}
