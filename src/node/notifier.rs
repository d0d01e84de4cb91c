//! The notifier node: one pipeline for each partition of the alerts' topic that is its own, and
//! one sender for all.

use tokio_util::sync::CancellationToken;

use super::consumer::{Consumer, Given, Share};
use crate::health::Handle;
use crate::pipeline::notify::{NotifierPorts, Sender};
use crate::pipeline::record::ALERTS_TOPIC;

/// Accepts the alerts of this member's share of the partitions and sends what is due, whosoever
/// accepted it, until it is stopped. The sender stops last, so that nothing it was handed stays
/// claimed.
pub fn notify(
    ports: NotifierPorts,
    sender: Sender,
    share: Share,
) -> impl Future<Output = ()> + Send {
    let NotifierPorts { broker, clock, backoff, metrics, .. } = ports.clone();
    let (stop, health) = (share.stop.clone(), share.health.component("sender"));
    let consumer = Consumer::new("notifier", ALERTS_TOPIC, share, broker, clock, backoff, metrics);
    async move {
        let sender_stop = CancellationToken::new();
        let sending = tokio::spawn(send(sender, health, sender_stop.clone()));
        let run = consumer.run(move |Given { partition, position, health, stop }| {
            let ports = ports.clone();
            async move { ports.run(partition, position, stop, move || health.ready()).await }
        });
        run.await;
        stop.cancelled().await;
        sender_stop.cancel();
        // A panic of the sender was reported when it happened.
        let _ = sending.await;
    }
}

async fn send(sender: Sender, health: Handle, stop: CancellationToken) {
    health.ready();
    if let Err(error) = sender.run(stop).await {
        tracing::error!("the sender stops: {error}");
        health.not_ready(&error.to_string());
    }
}
