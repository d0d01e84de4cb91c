//! A node's share of a topic: one pipeline for each partition that is its own. Which those are,
//! and what becomes of the others' pipelines, is in [`running`].

mod running;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use running::Running;

use super::supervise::{End, supervise};
use crate::health::{Handle, Health};
use crate::metrics::{Metrics, Topic, TopicPartition};
use crate::model::Partition;
use crate::pipeline::Backoff;
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::Clock;
use crate::pipeline::members::{Alone, Membership};
use crate::pipeline::stage::StageError;

/// How processes share the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberOptions {
    /// Milliseconds from one sign of life to the next.
    pub heartbeat_ms: u64,
    /// Milliseconds after the last sign of life until a member's partitions go to others.
    pub lease_ms: u64,
}

impl Default for MemberOptions {
    fn default() -> Self {
        Self { heartbeat_ms: 1_000, lease_ms: 5_000 }
    }
}

/// What a node needs to take its share of a topic.
#[derive(Clone)]
pub struct Share {
    /// Who else there is.
    pub membership: Arc<dyn Membership>,
    /// This process's name among them; no two running ones have the same.
    pub member: String,
    /// How it shares.
    pub options: MemberOptions,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Where readiness is said.
    pub health: Health,
    /// Ends the node.
    pub stop: CancellationToken,
}

impl Share {
    /// All of the topic's partitions.
    pub fn all(partitions: u32, health: Health, stop: CancellationToken) -> Self {
        Self {
            membership: Arc::new(Alone { partitions }),
            member: "alone".to_owned(),
            options: MemberOptions::default(),
            partitions,
            health,
            stop,
        }
    }
}

/// What a pipeline is given when it starts.
pub(super) struct Given {
    pub(super) partition: Partition,
    /// The pipeline's committed position, which it keeps up to date here.
    pub(super) position: Arc<AtomicU64>,
    /// Where it says that it is ready.
    pub(super) health: Handle,
    pub(super) stop: CancellationToken,
}

/// A consumer of a topic.
pub(super) struct Consumer {
    /// What it does with its partitions: `evaluator`, `notifier`.
    name: &'static str,
    topic: &'static str,
    share: Share,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    metrics: Metrics,
    /// The node as a whole, which is ready once it knows its share.
    health: Handle,
}

impl Consumer {
    pub(super) fn new(
        name: &'static str,
        topic: &'static str,
        share: Share,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        backoff: Backoff,
        metrics: Metrics,
    ) -> Self {
        let health = share.health.component(name);
        Self { name, topic, share, broker, clock, backoff, metrics, health }
    }

    /// Runs what `start` begins for each partition that is this member's, until it is stopped.
    pub(super) async fn run<F, R>(self, start: F)
    where
        F: Fn(Given) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<(), StageError>> + Send + 'static,
    {
        let pause = Duration::from_millis(self.share.options.heartbeat_ms.max(1));
        let stop = self.share.stop.clone();
        self.state(&self.metrics.partitions, self.share.partitions.into());
        let clock = self.clock.clone();
        let mut running = Running::new(self, start);
        while !stop.is_cancelled() {
            stop.run_until_cancelled(running.beat()).await;
            running.count();
            let mut next = clock.sleep(pause);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = &mut next => break,
                    Some(ended) = running.tasks.join_next() => {
                        // A panic is the supervisor's to catch.
                        if let Ok((partition, end)) = ended {
                            running.ended(partition, end).await;
                            running.count();
                        }
                    }
                }
            }
        }
        running.leave().await;
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.share.options.lease_ms)
    }

    fn labels(&self, partition: Partition) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: partition.0 }
    }

    fn state(&self, family: &Family<Topic, Gauge>, count: i64) {
        family.get_or_create(&Topic { topic: self.topic.to_owned() }).set(count);
    }

    /// One partition's pipeline, supervised; the lag is measured meanwhile.
    async fn pipeline<F, R>(self: Arc<Self>, start: F, given: Given) -> (Partition, End)
    where
        F: Fn(Given) -> R,
        R: Future<Output = Result<(), StageError>>,
    {
        let Given { partition, position, health, stop } = given;
        let name = format!("{} of partition {partition}", self.name);
        let run = supervise(&name, health.clone(), &self.backoff, &stop, || {
            let (position, health) = (position.clone(), health.clone());
            start(Given { partition, position, health, stop: stop.clone() })
        });
        let end = tokio::select! {
            end = run => end,
            () = self.measure(partition, &position) => End::Done,
        };
        if end != End::Failed {
            self.metrics.consumer_lag.remove(&self.labels(partition));
        }
        (partition, end)
    }

    /// States every second how many records are not committed yet.
    async fn measure(&self, partition: Partition, position: &AtomicU64) {
        loop {
            if let Ok(bounds) = self.broker.bounds(self.topic, partition).await {
                let lag = bounds.end.0.saturating_sub(position.load(Ordering::Relaxed));
                let lag = i64::try_from(lag).unwrap_or(i64::MAX);
                self.metrics.consumer_lag.get_or_create(&self.labels(partition)).set(lag);
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }
}

#[cfg(test)]
mod tests;
