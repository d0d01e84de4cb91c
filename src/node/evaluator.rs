//! The evaluator node: one pipeline a partition of the ticks' topic.

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::supervise::Consumer;
use crate::health::{Handle, Health};
use crate::model::Partition;
use crate::pipeline::evaluate::EvaluatorPorts;
use crate::pipeline::record::TICKS_TOPIC;

/// Evaluates the partitions `0..partitions` until `stop` is cancelled.
pub async fn evaluate(
    ports: EvaluatorPorts,
    partitions: u32,
    health: Health,
    stop: CancellationToken,
) {
    let tasks = (0..partitions).map(Partition).map(|partition| {
        let (ports, stop) = (ports.clone(), stop.clone());
        let consumer = Consumer {
            name: "evaluator",
            topic: TICKS_TOPIC,
            partition,
            broker: ports.broker.clone(),
            clock: ports.clock.clone(),
            backoff: ports.backoff.clone(),
            metrics: ports.metrics.clone(),
            health: health.clone(),
            stop: stop.clone(),
        };
        tokio::spawn(async move {
            let start = |position, handle: Handle| {
                ports.run(partition, position, stop.clone(), move || handle.ready())
            };
            consumer.run(start).await;
        })
    });
    join_all(tasks).await;
}
