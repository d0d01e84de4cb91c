//! The notifier node: one pipeline a partition of the alerts' topic, and one sender for all.

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::supervise::Consumer;
use crate::health::{Handle, Health};
use crate::model::Partition;
use crate::pipeline::notify::{NotifierPorts, Sender};
use crate::pipeline::record::ALERTS_TOPIC;

/// Accepts the alerts of the partitions `0..partitions` and sends what is due, until `stop` is
/// cancelled. The sender stops last, so that nothing it was handed stays claimed.
pub async fn notify(
    ports: NotifierPorts,
    sender: Sender,
    partitions: u32,
    health: Health,
    stop: CancellationToken,
) {
    let sender_stop = CancellationToken::new();
    let sending = tokio::spawn(send(sender, health.component("sender"), sender_stop.clone()));
    let tasks = (0..partitions).map(Partition).map(|partition| {
        let (ports, stop) = (ports.clone(), stop.clone());
        let consumer = Consumer {
            name: "notifier",
            topic: ALERTS_TOPIC,
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
    stop.cancelled().await;
    sender_stop.cancel();
    // A panic of the sender was reported when it happened.
    let _ = sending.await;
}

async fn send(sender: Sender, health: Handle, stop: CancellationToken) {
    health.ready();
    if let Err(error) = sender.run(stop).await {
        tracing::error!("the sender stops: {error}");
        health.not_ready(&error.to_string());
    }
}
