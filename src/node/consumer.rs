//! A node's share of a topic: one pipeline for each partition that is its own, started when the
//! partition is claimed, stopped before it is released, and left when another member has it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::balance::plan;
use super::supervise::{End, supervise};
use crate::health::{Handle, Health};
use crate::metrics::{Metrics, Topic, TopicPartition};
use crate::model::Partition;
use crate::pipeline::Backoff;
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::Clock;
use crate::pipeline::members::{Alone, Membership, View};
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
        let mut running = Running {
            consumer: Arc::new(self),
            start,
            pipelines: BTreeMap::new(),
            tasks: JoinSet::new(),
            confirmed: None,
            settled: false,
        };
        while !stop.is_cancelled() {
            stop.run_until_cancelled(running.beat()).await;
            running.count();
            let clock = running.consumer.clock.clone();
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

/// Where a partition's pipeline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Runs,
    /// It was told to stop, and its partition is released when it has.
    Stopping,
    /// It was told to stop, and its partition is another's already.
    Lost,
    /// It failed for good and has ended. The partition stays with this member, which says so:
    /// any other would fail as well.
    Failed,
}

struct Pipeline {
    stop: CancellationToken,
    stand: Stand,
    health: Handle,
}

impl Pipeline {
    fn end(&mut self, stand: Stand) {
        self.stop.cancel();
        self.stand = stand;
    }
}

/// A consumer and its pipelines.
struct Running<F> {
    consumer: Arc<Consumer>,
    start: F,
    pipelines: BTreeMap<Partition, Pipeline>,
    tasks: JoinSet<(Partition, End)>,
    /// Before the last heartbeat that was answered.
    confirmed: Option<Instant>,
    /// Whether the first share is known; what comes later does not make the node unready.
    settled: bool,
}

impl<F, R> Running<F>
where
    F: Fn(Given) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<(), StageError>> + Send + 'static,
{
    /// Gives a sign of life and does what the answer asks for.
    async fn beat(&mut self) {
        let consumer = self.consumer.clone();
        let Share { membership, member, options, .. } = &consumer.share;
        let asked = Instant::now();
        let rest = self.confirmed.map_or(consumer.lease(), |confirmed| {
            consumer.lease().saturating_sub(confirmed.elapsed())
        });
        let beat = membership.heartbeat(consumer.topic, member, options.lease_ms);
        // An answer that comes after the lease has ended is worth nothing.
        let patience = rest.max(Duration::from_millis(options.heartbeat_ms));
        let reason = match tokio::time::timeout(patience, beat).await {
            Ok(Ok(view)) => {
                self.confirmed = Some(asked);
                return self.follow(view).await;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", patience.as_millis()),
        };
        tracing::warn!("the {}'s share of the work is not confirmed: {reason}", consumer.name);
        if self.confirmed.is_none_or(|confirmed| confirmed.elapsed() >= consumer.lease()) {
            // Others have the partitions by now, or will. Whatever still runs is fenced.
            consumer.health.not_ready(&reason);
            self.pipelines.values_mut().for_each(|pipeline| match pipeline.stand {
                Stand::Failed => {}
                _ => pipeline.end(Stand::Lost),
            });
        }
    }

    /// Brings the pipelines in line with who owns what.
    async fn follow(&mut self, view: View) {
        let consumer = self.consumer.clone();
        let Share { membership, member, partitions, .. } = &consumer.share;
        let is_mine = |partition: &Partition| view.owners.get(partition) == Some(member);
        self.pipelines.retain(|partition, pipeline| {
            if is_mine(partition) {
                return true;
            }
            if pipeline.stand == Stand::Failed {
                pipeline.health.gone();
                return false;
            }
            if pipeline.stand != Stand::Lost {
                tracing::warn!(%partition, "the {} has lost its partition", consumer.name);
                pipeline.end(Stand::Lost);
            }
            true
        });
        let is_stopping = |pipeline: &Pipeline| pipeline.stand == Stand::Stopping;
        let stopping: BTreeSet<Partition> =
            self.pipelines.iter().filter(|(_, p)| is_stopping(p)).map(|(p, _)| *p).collect();
        let plan = plan(&view, *partitions, member, &stopping);
        let idle = self.stop_surplus(&plan.release);
        if !idle.is_empty() {
            self.release(&idle).await;
        }
        let mut mine: BTreeSet<Partition> = view
            .owners
            .keys()
            .filter(|partition| is_mine(partition) && !plan.release.contains(partition))
            .copied()
            .collect();
        if !plan.claim.is_empty() {
            match membership.claim(consumer.topic, &plan.claim, member).await {
                Ok(claimed) => mine.extend(claimed),
                Err(error) => tracing::warn!("the {} claimed nothing: {error}", consumer.name),
            }
        }
        for partition in mine {
            // One that still ends is started anew with the next heartbeat.
            if !self.pipelines.contains_key(&partition) {
                self.start(partition);
            }
        }
        self.settled = true;
        consumer.health.ready();
    }

    /// Tells the pipelines of these partitions to stop; returns the partitions that have none.
    fn stop_surplus(&mut self, surplus: &[Partition]) -> Vec<Partition> {
        let mut idle = Vec::new();
        for partition in surplus {
            match self.pipelines.get_mut(partition) {
                Some(pipeline) if pipeline.stand == Stand::Runs => {
                    tracing::info!(%partition, "the {} hands over", self.consumer.name);
                    pipeline.end(Stand::Stopping);
                }
                Some(pipeline) if pipeline.stand == Stand::Failed => {
                    pipeline.health.gone();
                    self.pipelines.remove(partition);
                    idle.push(*partition);
                }
                Some(_) => {}
                None => idle.push(*partition),
            }
        }
        idle
    }

    fn start(&mut self, partition: Partition) {
        let consumer = self.consumer.clone();
        let name = format!("{} of partition {partition}", consumer.name);
        let health = &consumer.share.health;
        let health = if self.settled { health.passing(&name) } else { health.component(&name) };
        let stop = consumer.share.stop.child_token();
        let position = Arc::new(AtomicU64::new(0));
        let given = Given { partition, position, health: health.clone(), stop: stop.clone() };
        self.pipelines.insert(partition, Pipeline { stop, stand: Stand::Runs, health });
        self.tasks.spawn(consumer.pipeline(self.start.clone(), given));
    }

    /// States how many partitions are this member's and worked on. One that it has lost is not, nor
    /// one whose pipeline failed for good.
    fn count(&self) {
        let is_at_work = |pipeline: &&Pipeline| match pipeline.stand {
            Stand::Runs | Stand::Stopping => true,
            Stand::Lost | Stand::Failed => false,
        };
        let count = self.pipelines.values().filter(is_at_work).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.consumer.state(&self.consumer.metrics.partitions_owned, count);
    }

    /// A pipeline has ended.
    async fn ended(&mut self, partition: Partition, end: End) {
        let Some(pipeline) = self.pipelines.get_mut(&partition) else { return };
        let stand = pipeline.stand;
        if stand == Stand::Runs && end == End::Failed {
            pipeline.stand = Stand::Failed;
            return;
        }
        pipeline.health.gone();
        self.pipelines.remove(&partition);
        if stand == Stand::Stopping {
            self.release(&[partition]).await;
        }
    }

    async fn release(&self, partitions: &[Partition]) {
        let consumer = &self.consumer;
        let Share { membership, member, .. } = &consumer.share;
        let release = membership.release(consumer.topic, partitions, member);
        // What was not released is released with the next heartbeat.
        match tokio::time::timeout(consumer.lease(), release).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the {} released nothing: {error}", consumer.name),
            Err(_) => tracing::warn!("the {} released nothing: no answer", consumer.name),
        }
    }

    /// Ends every pipeline, then lets the others know. Those whose commits still hang are not
    /// waited for by others for longer than the lease.
    async fn leave(mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.pipelines.clear();
        self.count();
        let consumer = &self.consumer;
        let Share { membership, member, .. } = &consumer.share;
        let leave = membership.leave(consumer.topic, member);
        if !matches!(tokio::time::timeout(consumer.lease(), leave).await, Ok(Ok(()))) {
            tracing::warn!("the {} left without a word: its lease ends by itself", consumer.name);
        }
    }
}

#[cfg(test)]
mod tests;
