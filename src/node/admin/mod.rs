//! The admin node: topics, reports on them, and sweeping what has outlived its age.

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::model::Partition;
use crate::pipeline::broker::{Broker, BrokerError};
use crate::pipeline::clock::Clock;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
use crate::pipeline::store::{StoreError, TopicStore};
use crate::server::store::OperatorStore;

/// How often the admin node does what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminOptions {
    /// Seconds between two reports on the topics.
    pub report_s: u64,
    /// Seconds between two counts of what waits and of dead letters.
    pub count_s: u64,
    /// Seconds between two sweeps of what has outlived its age.
    pub sweep_s: u64,
}

/// The admin node's ports.
pub struct Admin {
    /// The log.
    pub broker: Arc<dyn Broker>,
    /// The store.
    pub store: Arc<dyn OperatorStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics.
    pub metrics: Metrics,
    /// Partitions of each topic.
    pub partitions: u32,
    /// How often it does what.
    pub options: AdminOptions,
}

/// Creates both topics if they are missing and makes them known to the store; refuses ones of
/// another size. One that was replaced is left to its consumers to refuse, so that whatever does
/// not read it goes on.
pub async fn create_topics(
    broker: &dyn Broker,
    store: &dyn TopicStore,
    partitions: u32,
) -> Result<(), StoreError> {
    for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
        let found = broker.create_topic(topic, partitions).await.map_err(|error| match error {
            BrokerError::Transient(reason) => StoreError::Transient(reason),
            other => StoreError::Permanent(other.to_string()),
        })?;
        match store.adopt_topic(topic, found).await {
            Err(StoreError::Replaced { .. }) => {}
            other => other?,
        }
        if found.partitions != partitions {
            return Err(StoreError::Permanent(format!(
                "topics.partitions is {partitions}, but the log has {found} partitions of \
                 {topic}: set it back to {found}",
                found = found.partitions
            )));
        }
    }
    Ok(())
}

impl Admin {
    /// Reports, counts and sweeps until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        if let Some(cluster) = self.broker.cluster() {
            stop.run_until_cancelled(cluster::compare(cluster, self.partitions)).await;
        }
        let gauges = cluster::Gauges::default();
        tokio::join!(
            self.every(self.options.report_s, &stop, || self.report()),
            self.every(self.options.count_s, &stop, || self.count(&gauges)),
            self.every(self.options.sweep_s, &stop, || self.sweep(&stop)),
        );
    }

    async fn every<F: Future<Output = ()>>(
        &self,
        seconds: u64,
        stop: &CancellationToken,
        mut act: impl FnMut() -> F,
    ) {
        loop {
            act().await;
            let pause = self.clock.sleep(Duration::from_secs(seconds.max(1)));
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn report(&self) {
        if let Some(cluster) = self.broker.cluster() {
            return cluster::report(cluster).await;
        }
        for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
            for partition in (0..self.partitions).map(Partition) {
                match self.broker.bounds(topic, partition).await {
                    Ok(bounds) => {
                        let (first, end) = (bounds.first, bounds.end);
                        tracing::info!(topic, %partition, %first, %end, "partition");
                    }
                    Err(error) => tracing::warn!(topic, %partition, "partition: {error}"),
                }
            }
        }
    }

    async fn count(&self, gauges: &cluster::Gauges) {
        if let Some(cluster) = self.broker.cluster() {
            gauges.refresh(cluster, &self.metrics).await;
        }
        match self.store.backlog().await {
            Ok(backlog) => {
                let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                self.metrics.deliveries_pending.set(gauge(backlog.pending));
                let dead = backlog.dead_deliveries + backlog.dead_records;
                self.metrics.dead_letters.set(gauge(dead));
            }
            Err(error) => tracing::warn!("the backlog is not known: {error}"),
        }
    }

    async fn sweep(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.store.sweep().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!("what has outlived its age was not deleted: {error}");
                    return;
                }
            }
        }
    }
}
