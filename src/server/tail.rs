//! Tails of the topics: what is accepted and made from now on goes to the board, whichever
//! process it comes from.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use crate::health::{Handle, Health};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Broker, BrokerError, Placed};
use crate::pipeline::clock::Clock;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC, decode_alert, decode_tick};

/// How the topics are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailOptions {
    /// Bytes read at a time, about.
    pub read_bytes_max: usize,
    /// Milliseconds between two attempts while the broker is not available.
    pub retry_ms: u64,
}

impl Default for TailOptions {
    fn default() -> Self {
        Self { read_bytes_max: 1 << 20, retry_ms: 1_000 }
    }
}

/// Reads the topics of ticks and alerts from their ends.
pub struct Tail {
    broker: Arc<dyn Broker>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    health: Health,
    topics: [(&'static str, Handle); 2],
    options: TailOptions,
}

impl Tail {
    /// A tail that tells `board`, and is not ready until it knows where it begins everywhere.
    pub fn new(
        options: TailOptions,
        broker: Arc<dyn Broker>,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
        health: Health,
    ) -> Self {
        let topics = [TICKS_TOPIC, ALERTS_TOPIC];
        let topics = topics.map(|topic| (topic, health.component(&format!("tail of {topic}"))));
        Self { broker, board, clock, health, topics, options }
    }

    /// Reads both topics until it is told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let tails = join_all(self.topics.iter().map(|(topic, handle)| self.topic(topic, handle)));
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = tails => {}
        }
    }

    async fn topic(&self, topic: &'static str, handle: &Handle) {
        let partitions = loop {
            match self.broker.topic(topic).await {
                Ok(found) => break found.partitions,
                Err(BrokerError::Closed) => return handle.not_ready("the broker is closed"),
                Err(error) => self.pause(handle, &error).await,
            }
        };
        let tails: Vec<_> = (0..partitions)
            .map(|partition| {
                let health = self.health.component(&format!("tail of {topic}/{partition}"));
                self.partition(topic, Partition(partition), health)
            })
            .collect();
        // Not before its partitions are entered, which are not ready yet.
        handle.ready();
        join_all(tails).await;
    }

    async fn partition(&self, topic: &'static str, partition: Partition, health: Handle) {
        let mut at = None;
        loop {
            match self.next(topic, partition, &mut at, &health).await {
                Ok(records) => {
                    if let Some(last) = records.last() {
                        at = Some(last.offset.next());
                    }
                    self.tell(topic, &records);
                }
                Err(BrokerError::OutOfRange { offset, bounds }) => {
                    tracing::warn!(topic, %partition, %offset, "the tail lost its place");
                    at = Some(if offset < bounds.first { bounds.first } else { bounds.end });
                    self.board.gap();
                }
                Err(BrokerError::Closed) => return health.not_ready("the broker is closed"),
                Err(error) => self.pause(&health, &error).await,
            }
        }
    }

    /// The records from `at` on, once there are any; from the end on at first.
    async fn next(
        &self,
        topic: &str,
        partition: Partition,
        at: &mut Option<Offset>,
        health: &Handle,
    ) -> Result<Vec<Placed>, BrokerError> {
        let from = match *at {
            Some(from) => from,
            None => *at.insert(self.broker.bounds(topic, partition).await?.end),
        };
        let bytes_max = self.options.read_bytes_max;
        let records = self.broker.read(topic, partition, from, bytes_max).await?;
        health.ready();
        if records.is_empty() {
            self.broker.wait(topic, partition, from).await?;
        }
        Ok(records)
    }

    /// A record that does not decode is the consuming stage's to set aside.
    fn tell(&self, topic: &str, records: &[Placed]) {
        let records = records.iter().map(|placed| &placed.record);
        if topic == TICKS_TOPIC {
            let ticks: Vec<_> = records.filter_map(|record| decode_tick(record).ok()).collect();
            self.board.publish(&ticks);
        } else {
            let alerts = records.filter_map(|record| decode_alert(record).ok());
            let alerts: Vec<_> = alerts.map(|(alert, _)| alert).collect();
            self.board.publish_alerts(&alerts);
        }
    }

    async fn pause(&self, health: &Handle, error: &BrokerError) {
        health.not_ready(&error.to_string());
        tracing::warn!(%error, "a topic can't be read now");
        self.clock.sleep(Duration::from_millis(self.options.retry_ms.max(1))).await;
    }
}
