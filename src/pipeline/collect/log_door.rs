//! The door into a log: refuses what lies in the future, and appends the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::try_join_all;
use serde::Deserialize;

use super::door::Door;
use crate::failpoint;
use crate::metrics::{Metrics, Reason, Stage};
use crate::model::{Partition, Tick};
use crate::pipeline::broker::{Broker, BrokerError, Record, partition_of};
use crate::pipeline::clock::Clock;
use crate::pipeline::record::{TICKS_TOPIC, encode_tick};
use crate::trace::{Span, SpanKind, TraceParent};

/// What the door lets in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorOptions {
    /// How far ahead of the clock a tick's time may lie, in seconds: one wrong date must not
    /// silence a symbol.
    pub ahead_s_max: u64,
}

/// Ticks in one append, so that a push of as many as are allowed stays below the bytes that a log
/// takes at once. A record has at most 110 bytes, and 70 more where it is traced.
const APPENDED_MAX: usize = 5_000;
const TRACED_APPENDED_MAX: usize = 3_000;

/// Appends ticks to the ticks' topic.
pub struct LogDoor {
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    partitions: u32,
    options: DoorOptions,
}

impl LogDoor {
    /// A door into `broker`, whose ticks' topic has `partitions` partitions.
    pub fn new(
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        partitions: u32,
        options: DoorOptions,
    ) -> Self {
        Self { broker, clock, metrics, partitions, options }
    }

    /// Appends records in order, in parts.
    async fn append_all(
        &self,
        partition: Partition,
        mut records: Vec<Record>,
        appended_max: usize,
    ) -> Result<(), BrokerError> {
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(appended_max));
            self.append(partition, records).await?;
            records = rest;
        }
        Ok(())
    }

    async fn append(&self, partition: Partition, records: Vec<Record>) -> Result<(), BrokerError> {
        let stage = Stage { stage: "collect" };
        let count = records.len() as u64;
        let started = Instant::now();
        failpoint::hit("collect/before-append");
        self.broker.append(TICKS_TOPIC, partition, records).await?;
        failpoint::hit("collect/after-append");
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.produced(seconds);
        self.metrics.stage_seconds.get_or_create(&stage).observe(seconds);
        self.metrics.records_out.get_or_create(&stage).inc_by(count);
        Ok(())
    }
}

#[async_trait]
impl Door for LogDoor {
    async fn accept(
        &self,
        ticks: Vec<Tick>,
        before: Option<TraceParent>,
    ) -> Result<Vec<Option<String>>, BrokerError> {
        let now = self.clock.now();
        let latest = now.plus(Duration::from_secs(self.options.ahead_s_max));
        let taken = self.metrics.records_in.get_or_create(&Stage { stage: "collect" }).clone();
        taken.inc_by(ticks.len() as u64);
        let mut span = match before {
            Some(_) => Span::after(before, "collect", SpanKind::Producer),
            None => Span::first("collect", SpanKind::Producer),
        };
        span.set("tripline.ticks", i64::try_from(ticks.len()).unwrap_or(i64::MAX));
        // A process that records no spans still passes the trace on.
        let header = span.parent().or(before).map(|parent| parent.header());
        let mut batches = vec![Vec::new(); self.partitions.max(1) as usize];
        let refusals = ticks.iter().map(|tick| {
            if tick.time > latest {
                self.metrics.ticks_refused.get_or_create(&Reason { reason: "future" }).inc();
                let ahead_s_max = self.options.ahead_s_max;
                return Some(format!(
                    "expected a time at most {ahead_s_max} s ahead of the clock ({now}), found {}",
                    tick.time
                ));
            }
            let partition = partition_of(tick.symbol.as_bytes(), self.partitions);
            let mut record = encode_tick(tick, now);
            record.headers.extend(header.clone());
            batches[partition.0 as usize].push(record);
            None
        });
        let refusals = refusals.collect();
        let appended_max = if header.is_some() { TRACED_APPENDED_MAX } else { APPENDED_MAX };
        let appends = (0..)
            .map(Partition)
            .zip(batches)
            .map(|(partition, records)| self.append_all(partition, records, appended_max));
        try_join_all(appends).await.inspect_err(|error| span.failed(error))?;
        Ok(refusals)
    }
}
