//! The evaluator node: one pipeline a partition of the ticks' topic.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::lag::measure;
use super::supervise::supervise;
use crate::health::Health;
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
    let tasks = (0..partitions).map(|partition| {
        let (ports, health, stop) = (ports.clone(), health.clone(), stop.clone());
        tokio::spawn(evaluate_one(ports, Partition(partition), health, stop))
    });
    join_all(tasks).await;
}

async fn evaluate_one(
    ports: EvaluatorPorts,
    partition: Partition,
    health: Health,
    stop: CancellationToken,
) {
    let name = format!("evaluator of partition {partition}");
    let handle = health.component(&name);
    let position = Arc::new(AtomicU64::new(0));
    let run = supervise(&name, handle.clone(), &ports.backoff, &stop, || {
        let handle = handle.clone();
        ports.run(partition, position.clone(), stop.clone(), move || handle.ready())
    });
    let (broker, clock, metrics) =
        (ports.broker.clone(), ports.clock.clone(), ports.metrics.clone());
    tokio::select! {
        () = run => {}
        () = measure(broker, clock, metrics, TICKS_TOPIC, partition, position.clone()) => {}
    }
}
