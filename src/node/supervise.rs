//! Keeping the pipeline of a partition running: transient failures start it over, permanent ones
//! stop that partition, say so, and leave the others alone.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::health::{Handle, Health};
use crate::metrics::{Metrics, TopicPartition};
use crate::model::Partition;
use crate::pipeline::Backoff;
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::Clock;
use crate::pipeline::stage::StageError;

/// One partition's consumer, and what it is watched with.
pub(super) struct Consumer {
    /// What it does with its partition: `evaluator`, `notifier`.
    pub(super) name: &'static str,
    pub(super) topic: &'static str,
    pub(super) partition: Partition,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backoff: Backoff,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
}

impl Consumer {
    /// Runs what `start` begins, which follows its committed position in the counter that it is
    /// given and says itself when it is ready; measures the lag meanwhile.
    pub(super) async fn run<F, R>(self, start: F)
    where
        F: Fn(Arc<AtomicU64>, Handle) -> R,
        R: Future<Output = Result<(), StageError>>,
    {
        let name = format!("{} of partition {}", self.name, self.partition);
        let handle = self.health.component(&name);
        let position = Arc::new(AtomicU64::new(0));
        let run = supervise(&name, handle.clone(), &self.backoff, &self.stop, || {
            start(position.clone(), handle.clone())
        });
        tokio::select! {
            () = run => {}
            () = self.measure(&position) => {}
        }
    }

    /// States every second how many records are not committed yet.
    async fn measure(&self, position: &AtomicU64) {
        let labels = TopicPartition { topic: self.topic, partition: self.partition.0 };
        loop {
            if let Ok(bounds) = self.broker.bounds(self.topic, self.partition).await {
                let lag = bounds.end.0.saturating_sub(position.load(Ordering::Relaxed));
                let lag = i64::try_from(lag).unwrap_or(i64::MAX);
                self.metrics.consumer_lag.get_or_create(&labels).set(lag);
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Runs `start` again and again until it ends well, fails for good, or `stop` is cancelled.
/// `health` says how it is; whatever `start` begins says itself when it is ready.
pub(super) async fn supervise<F, R>(
    name: &str,
    health: Handle,
    backoff: &Backoff,
    stop: &CancellationToken,
    mut start: F,
) where
    F: FnMut() -> R,
    R: Future<Output = Result<(), StageError>>,
{
    for attempt in 0.. {
        // A panic leaves nothing behind that anybody uses: the partition is taken over anew.
        let end = AssertUnwindSafe(start()).catch_unwind().await;
        let panicked = |_| Err(StageError::Permanent("it panicked: restart the process".into()));
        match end.unwrap_or_else(panicked) {
            Ok(()) => return,
            Err(StageError::Permanent(reason)) => {
                tracing::error!("{name} stops: {reason}");
                health.not_ready(&reason);
                return;
            }
            Err(StageError::Transient(reason)) => {
                if stop.is_cancelled() {
                    return;
                }
                tracing::warn!("{name} starts over: {reason}");
                health.not_ready(&reason);
                if stop.run_until_cancelled(backoff.wait(attempt)).await.is_none() {
                    return;
                }
            }
        }
    }
}
