//! One partition of the evaluator, from taking it over to letting it go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::commit::{Publisher, StepJournal};
use super::intake::Intake;
use super::rules::Rules;
use super::{EvaluateStore, Owned, Traced};
use crate::metrics::Metrics;
use crate::model::{AlertSeq, Partition};
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::Clock;
use crate::pipeline::log_source::{LogSource, begin_at, earliest};
use crate::pipeline::record::TICKS_TOPIC;
use crate::pipeline::stage::StageError;
use crate::pipeline::{Backoff, Pipeline};

/// How the evaluator works.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateOptions {
    /// Bytes of records read at once.
    pub read_bytes_max: usize,
    /// Changes of watches applied in one step.
    pub changes_max: u32,
    /// Quiet ticks that may wait for their commit.
    pub records_max: u64,
    /// How long quiet ticks may wait for their commit, in milliseconds.
    pub flush_ms: u64,
    /// Symbols or watches loaded in one transaction.
    pub load_rows: u32,
    /// Alerts made in one step, about: the step ends with the tick that reaches it.
    pub alerts_max: usize,
}

/// What the evaluator needs to run.
#[derive(Clone)]
pub struct EvaluatorPorts {
    /// The log.
    pub broker: Arc<dyn Broker>,
    /// The store.
    pub store: Arc<dyn EvaluateStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How transient failures are repeated.
    pub backoff: Backoff,
    /// The metrics.
    pub metrics: Metrics,
    /// The consumer group.
    pub group: String,
    /// Partitions of the alerts' topic.
    pub alert_partitions: u32,
    /// How it works.
    pub options: EvaluateOptions,
}

impl EvaluatorPorts {
    /// Takes a partition over and evaluates it until `stop` is cancelled, another owner takes it
    /// over, or it fails. `ready` is called once everything is loaded; `committed` follows the
    /// committed position.
    pub async fn run(
        &self,
        partition: Partition,
        committed: Arc<AtomicU64>,
        stop: CancellationToken,
        ready: impl FnOnce(),
    ) -> Result<(), StageError> {
        let broker = self.broker.as_ref();
        let first = earliest(broker, &*self.store, TICKS_TOPIC, partition).await?;
        let owned = self.store.own(partition, first).await?;
        begin_at(owned.position, broker, &self.group, TICKS_TOPIC, partition).await?;
        committed.store(owned.position.0, Ordering::Relaxed);
        let published = Arc::new(AtomicU64::new(owned.published.0));
        let publisher = Publisher {
            broker: self.broker.clone(),
            clock: self.clock.clone(),
            partitions: self.alert_partitions,
            published: published.clone(),
        };
        self.publish_rest(partition, owned.published, &publisher).await?;
        let rules = self.load(partition, &owned).await?;
        tracing::info!(%partition, position = %owned.position, watches = rules.watches(), "evaluating");
        let journal = StepJournal {
            store: self.store.clone(),
            broker: self.broker.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            group: self.group.clone(),
            fence: owned.fence,
            published,
            committed,
        };
        let (broker, bytes_max) = (self.broker.clone(), self.options.read_bytes_max);
        let log = LogSource::new(broker, TICKS_TOPIC, partition, owned.position, bytes_max);
        let options = self.options.clone();
        let intake = Intake::new(log, self.store.clone(), self.clock.clone(), options, partition);
        ready();
        Pipeline::from(intake)
            .evaluate(rules)
            .journal(journal)
            .notify(publisher)
            .retry(self.backoff.clone())
            .run(stop)
            .await
    }

    /// Publishes alerts that were committed and perhaps not published before a crash.
    async fn publish_rest(
        &self,
        partition: Partition,
        mut after: AlertSeq,
        publisher: &Publisher,
    ) -> Result<(), StageError> {
        loop {
            let page = self.store.alerts_after(partition, after, self.options.load_rows).await;
            let page = page?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.seq;
            // Their ticks' traces ended with the owner before.
            publisher.publish(&page, &Traced::default()).await?;
        }
    }

    async fn load(&self, partition: Partition, owned: &Owned) -> Result<Rules, StageError> {
        let EvaluateOptions { records_max, alerts_max, .. } = self.options;
        let mut rules = Rules::new(partition, owned.position, owned.last, records_max, alerts_max);
        let mut after = None;
        loop {
            let page = self.store.symbols(partition, after, self.options.load_rows).await;
            let page = page?;
            let Some(last) = page.last() else { break };
            after = Some(last.symbol);
            page.iter().for_each(|state| rules.restore_symbol(state));
        }
        let mut after = None;
        loop {
            let page = self.store.watches(partition, after, self.options.load_rows).await;
            let page = page?;
            let Some((last, _)) = page.last() else { return Ok(rules) };
            after = Some(last.id);
            page.iter().for_each(|(watch, state)| rules.restore_watch(watch, *state));
        }
    }
}
