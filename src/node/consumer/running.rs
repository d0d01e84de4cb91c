//! The pipelines of a consumer: each is started when its partition is claimed, stopped before it
//! is released, and left when another member has it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Consumer, Given, Share};
use crate::health::Handle;
use crate::model::Partition;
use crate::node::balance::plan;
use crate::node::supervise::End;
use crate::pipeline::members::View;
use crate::pipeline::stage::StageError;

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
pub(super) struct Running<F> {
    consumer: Arc<Consumer>,
    start: F,
    pipelines: BTreeMap<Partition, Pipeline>,
    /// One for each pipeline that has not ended.
    pub(super) tasks: JoinSet<(Partition, End)>,
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
    pub(super) fn new(consumer: Consumer, start: F) -> Self {
        Self {
            consumer: Arc::new(consumer),
            start,
            pipelines: BTreeMap::new(),
            tasks: JoinSet::new(),
            confirmed: None,
            settled: false,
        }
    }

    /// Gives a sign of life and does what the answer asks for.
    pub(super) async fn beat(&mut self) {
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
    pub(super) fn count(&self) {
        let is_at_work = |pipeline: &&Pipeline| match pipeline.stand {
            Stand::Runs | Stand::Stopping => true,
            Stand::Lost | Stand::Failed => false,
        };
        let count = self.pipelines.values().filter(is_at_work).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.consumer.state(&self.consumer.metrics.partitions_owned, count);
    }

    /// A pipeline has ended.
    pub(super) async fn ended(&mut self, partition: Partition, end: End) {
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
    pub(super) async fn leave(mut self) {
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
