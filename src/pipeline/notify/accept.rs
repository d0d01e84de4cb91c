//! One partition of the notifier: from the alerts' topic to deliveries that the store owns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Claimant, Delivery, Incoming, NotifyStore, SenderHandle};
use crate::failpoint;
use crate::metrics::{Metrics, Stage};
use crate::model::{AlertId, Offset, Partition};
use crate::pipeline::broker::{Broker, Placed};
use crate::pipeline::clock::Clock;
use crate::pipeline::log_source::{LogSource, begin_at, earliest};
use crate::pipeline::record::{ALERTS_TOPIC, decode_alert};
use crate::pipeline::stage::{Dedupe, Evaluate, Journal, Notify, Recent, StageError};
use crate::pipeline::store::{DeadRecord, Fence, Span};
use crate::pipeline::{Backoff, Pipeline};
use crate::trace::{self, SpanKind, TraceParent};

/// What the notifier needs to accept alerts.
#[derive(Clone)]
pub struct NotifierPorts {
    /// The log.
    pub broker: Arc<dyn Broker>,
    /// The store.
    pub store: Arc<dyn NotifyStore>,
    /// Who sends.
    pub sender: SenderHandle,
    /// In whose name new deliveries are claimed.
    pub claimant: Claimant,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How transient failures are repeated.
    pub backoff: Backoff,
    /// The metrics.
    pub metrics: Metrics,
    /// The consumer group.
    pub group: String,
    /// Bytes of records read at once.
    pub read_bytes_max: usize,
}

impl NotifierPorts {
    /// Takes a partition over and accepts its alerts until `stop` is cancelled, another owner
    /// takes it over, or it fails. `ready` is called once it reads; `committed`
    /// follows the committed position.
    pub async fn run(
        &self,
        partition: Partition,
        committed: Arc<AtomicU64>,
        stop: CancellationToken,
        ready: impl FnOnce(),
    ) -> Result<(), StageError> {
        let broker = self.broker.as_ref();
        let first = earliest(broker, &*self.store, ALERTS_TOPIC, partition).await?;
        let owned = self.store.own(partition, first).await?;
        begin_at(owned.position, broker, &self.group, ALERTS_TOPIC, partition).await?;
        committed.store(owned.position.0, Ordering::Relaxed);
        let broker = self.broker.clone();
        let source =
            LogSource::new(broker, ALERTS_TOPIC, partition, owned.position, self.read_bytes_max);
        ready();
        Pipeline::from(source)
            .evaluate(Decode { partition, position: owned.position })
            .dedupe(Unrepeated(Recent::new(RECENT_MAX)))
            .journal(Accept { ports: self.clone(), fence: owned.fence, committed })
            .notify(Hand(self.sender.clone()))
            .retry(self.backoff.clone())
            .run(stop)
            .await
    }
}

/// Alerts remembered, so that a repeated publication costs nothing.
const RECENT_MAX: usize = 16_384;

/// What came of a batch of records.
#[derive(Debug, Default)]
struct Accepted {
    span: Option<Span>,
    incoming: Vec<Incoming>,
    dead: Vec<DeadRecord>,
    claimed: Vec<Delivery>,
}

struct Decode {
    partition: Partition,
    position: Offset,
}

impl Evaluate<Placed> for Decode {
    type Out = Accepted;

    fn evaluate(&mut self, batch: &mut Vec<Placed>, out: &mut Accepted) {
        let from = self.position;
        for Placed { offset, record } in batch.drain(..) {
            self.position = offset.next();
            match decode_alert(&record) {
                Ok((alert, accepted)) => {
                    let trace = TraceParent::of(&record);
                    out.incoming.push(Incoming { alert, accepted, trace });
                }
                Err(error) => out.dead.push(DeadRecord {
                    topic: ALERTS_TOPIC.to_owned(),
                    partition: self.partition,
                    offset,
                    reason: error.to_string(),
                    key: record.key,
                    value: record.value,
                }),
            }
        }
        out.span = Some(Span { from, to: self.position });
    }
}

struct Unrepeated(Recent<AlertId>);

impl Dedupe<Accepted> for Unrepeated {
    fn dedupe(&mut self, out: &mut Accepted) {
        out.incoming.retain(|incoming| self.0.insert(incoming.alert.id));
    }
}

struct Accept {
    ports: NotifierPorts,
    fence: Fence,
    committed: Arc<AtomicU64>,
}

#[async_trait]
impl Journal<Accepted> for Accept {
    async fn commit(&mut self, out: &mut Accepted) -> Result<(), StageError> {
        let Some(span) = out.span else { return Ok(()) };
        let NotifierPorts { broker, store, sender, claimant, clock, metrics, group, .. } =
            &self.ports;
        let started = clock.now();
        let mut spans = begin(&mut out.incoming);
        failpoint::hit("notify/before-accept");
        let claimed = store
            .accept(self.fence, span, &out.incoming, &out.dead, claimant, sender.free())
            .await
            .inspect_err(|error| spans.iter_mut().for_each(|span| span.failed(error)))?;
        failpoint::hit("notify/after-accept");
        self.committed.store(span.to.0, Ordering::Relaxed);
        let stage = Stage { stage: "notify" };
        metrics.records_in.get_or_create(&stage).inc_by(span.to.0 - span.from.0);
        metrics.records_out.get_or_create(&stage).inc_by(out.incoming.len() as u64);
        metrics.dead_records.inc_by(out.dead.len() as u64);
        let took = clock.now().since(started);
        metrics.stage_seconds.get_or_create(&stage).observe(took.as_secs_f64());
        out.claimed = claimed;
        // The store holds the true position: this one serves retention and the broker's tools.
        let partition = self.fence.partition;
        if let Err(error) = broker.commit(group, ALERTS_TOPIC, partition, span.to).await {
            tracing::debug!(%partition, "the broker was not told the position: {error}");
        }
        Ok(())
    }
}

/// A span for each traced alert that is accepted, which what comes after it is to follow.
fn begin(incoming: &mut [Incoming]) -> Vec<trace::Span> {
    let span = |Incoming { alert, trace, .. }: &mut Incoming| {
        let mut span = trace::Span::after(Some((*trace)?), "accept", SpanKind::Consumer);
        span.set_id("tripline.alert", alert.id);
        // A process that records no spans still passes the trace on.
        *trace = span.parent().or(*trace);
        Some(span)
    };
    incoming.iter_mut().filter_map(span).collect()
}

struct Hand(SenderHandle);

#[async_trait]
impl Notify<Accepted> for Hand {
    async fn notify(&mut self, out: &mut Accepted) -> Result<(), StageError> {
        // Those that were not claimed with their acceptance wait in the store.
        let more = out.incoming.len() > out.claimed.len();
        self.0.offer(std::mem::take(&mut out.claimed));
        if more {
            self.0.wake();
        }
        Ok(())
    }
}
