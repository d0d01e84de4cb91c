//! Consumer lag: how many records of a partition are not committed yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::{Metrics, TopicPartition};
use crate::model::Partition;
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::Clock;

/// Measures the lag of one partition every second, for as long as it is polled.
pub(super) async fn measure(
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    topic: &'static str,
    partition: Partition,
    position: Arc<AtomicU64>,
) {
    let labels = TopicPartition { topic, partition: partition.0 };
    loop {
        if let Ok(bounds) = broker.bounds(topic, partition).await {
            let lag = bounds.end.0.saturating_sub(position.load(Ordering::Relaxed));
            metrics.consumer_lag.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        clock.sleep(Duration::from_secs(1)).await;
    }
}
