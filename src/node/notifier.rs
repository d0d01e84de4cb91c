//! The notifier node: one pipeline a partition of the alerts' topic, and one sender for all.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::lag::measure;
use super::supervise::supervise;
use crate::health::Health;
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
    let tasks = (0..partitions).map(|partition| {
        let (ports, health, stop) = (ports.clone(), health.clone(), stop.clone());
        tokio::spawn(notify_one(ports, Partition(partition), health, stop))
    });
    join_all(tasks).await;
    stop.cancelled().await;
    sender_stop.cancel();
    // A panic of the sender was reported when it happened.
    let _ = sending.await;
}

async fn send(sender: Sender, health: crate::health::Handle, stop: CancellationToken) {
    health.ready();
    if let Err(error) = sender.run(stop).await {
        tracing::error!("the sender stops: {error}");
        health.not_ready(&error.to_string());
    }
}

async fn notify_one(
    ports: NotifierPorts,
    partition: Partition,
    health: Health,
    stop: CancellationToken,
) {
    let name = format!("notifier of partition {partition}");
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
        () = measure(broker, clock, metrics, ALERTS_TOPIC, partition, position.clone()) => {}
    }
}
