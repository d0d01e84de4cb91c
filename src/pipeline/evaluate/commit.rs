//! The evaluator's journal and sink: commit a step, then publish its alerts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::rules::Step;
use super::{EvaluateStore, NumberedAlert, Traced};
use crate::failpoint;
use crate::metrics::{Metrics, Reason, Stage};
use crate::model::{AlertSeq, Partition};
use crate::pipeline::broker::{Broker, partition_of};
use crate::pipeline::clock::Clock;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC, encode_alert};
use crate::pipeline::stage::{Journal, Notify, StageError};
use crate::pipeline::store::Fence;

/// Commits steps under a fence.
pub(super) struct StepJournal {
    pub(super) store: Arc<dyn EvaluateStore>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) group: String,
    pub(super) fence: Fence,
    /// The number of the last alert published, which [`Publisher`] raises.
    pub(super) published: Arc<AtomicU64>,
    /// The committed position, for whoever measures the lag.
    pub(super) committed: Arc<AtomicU64>,
}

#[async_trait]
impl Journal<Step> for StepJournal {
    async fn commit(&mut self, step: &mut Step) -> Result<(), StageError> {
        let Some(span) = step.span else { return Ok(()) };
        let started = self.clock.now();
        step.traced.begin();
        step.evaluation.published = AlertSeq(self.published.load(Ordering::Acquire));
        failpoint::hit("evaluate/before-commit");
        self.store.commit(self.fence, span, &step.evaluation).await?;
        failpoint::hit("evaluate/after-commit");
        self.committed.store(span.to.0, Ordering::Relaxed);
        self.count(step, started);
        // The store holds the true position: this one serves retention and the broker's tools.
        let partition = self.fence.partition;
        let told = self.broker.commit(&self.group, TICKS_TOPIC, partition, span.to).await;
        if let Err(error) = told {
            tracing::debug!(%partition, "the broker was not told the position: {error}");
        }
        Ok(())
    }
}

impl StepJournal {
    fn count(&self, step: &Step, started: crate::model::Timestamp) {
        let stage = Stage { stage: "evaluate" };
        let metrics = &self.metrics;
        let dead = step.evaluation.dead.len() as u64;
        let records = step.counted + step.late + step.currency + dead;
        metrics.records_in.get_or_create(&stage).inc_by(records);
        metrics.records_out.get_or_create(&stage).inc_by(step.evaluation.alerts.len() as u64);
        metrics.alerts.inc_by(step.evaluation.alerts.len() as u64);
        metrics.ticks_late.inc_by(step.late);
        metrics.dead_records.inc_by(dead);
        metrics.ticks_refused.get_or_create(&Reason { reason: "currency" }).inc_by(step.currency);
        let took = self.clock.now().since(started);
        metrics.stage_seconds.get_or_create(&stage).observe(took.as_secs_f64());
    }
}

/// Alerts in one append, so that a tick that tells however many watches stays below the bytes
/// that a log takes at once. A record has at most 220 bytes.
const APPENDED_MAX: usize = 1_000;

/// Publishes committed alerts. What it publishes may repeat after a crash.
pub(super) struct Publisher {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Arc<dyn Clock>,
    /// Partitions of the alerts' topic.
    pub(super) partitions: u32,
    pub(super) published: Arc<AtomicU64>,
}

impl Publisher {
    /// Appends alerts, in the order of their numbers, to the topic. Called again after a failure,
    /// it goes on after the last part that was published.
    pub(super) async fn publish(
        &self,
        alerts: &[NumberedAlert],
        traced: &Traced,
    ) -> Result<(), StageError> {
        let published = self.published.load(Ordering::Acquire);
        let rest = &alerts[alerts.partition_point(|alert| alert.seq.0 <= published)..];
        for part in rest.chunks(APPENDED_MAX) {
            self.append(part, traced).await?;
        }
        Ok(())
    }

    async fn append(&self, alerts: &[NumberedAlert], traced: &Traced) -> Result<(), StageError> {
        let Some(last) = alerts.last() else { return Ok(()) };
        let now = self.clock.now();
        let mut batches = vec![Vec::new(); self.partitions.max(1) as usize];
        for NumberedAlert { seq, alert, accepted } in alerts {
            let partition = partition_of(alert.symbol.as_bytes(), self.partitions);
            let mut record = encode_alert(alert, *accepted, now);
            record.headers.extend(traced.header(*seq));
            batches[partition.0 as usize].push(record);
        }
        for (partition, records) in (0..).map(Partition).zip(batches) {
            if !records.is_empty() {
                self.broker.append(ALERTS_TOPIC, partition, records).await?;
            }
        }
        failpoint::hit("evaluate/after-publish");
        self.published.fetch_max(last.seq.0, Ordering::AcqRel);
        Ok(())
    }
}

#[async_trait]
impl Notify<Step> for Publisher {
    async fn notify(&mut self, step: &mut Step) -> Result<(), StageError> {
        self.publish(&step.evaluation.alerts, &step.traced).await?;
        step.traced.end();
        Ok(())
    }
}
