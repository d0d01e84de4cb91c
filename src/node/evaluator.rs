//! The evaluator node: one pipeline for each partition of the ticks' topic that is its own.

use super::consumer::{Consumer, Given, Share};
use crate::pipeline::evaluate::EvaluatorPorts;
use crate::pipeline::record::TICKS_TOPIC;

/// Evaluates this member's share of the partitions until it is stopped.
pub fn evaluate(ports: EvaluatorPorts, share: Share) -> impl Future<Output = ()> + Send {
    let EvaluatorPorts { broker, clock, backoff, metrics, .. } = ports.clone();
    let consumer = Consumer::new("evaluator", TICKS_TOPIC, share, broker, clock, backoff, metrics);
    consumer.run(move |Given { partition, position, health, stop }| {
        let ports = ports.clone();
        async move { ports.run(partition, position, stop, move || health.ready()).await }
    })
}
