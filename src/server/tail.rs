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
    /// Partitions that a topic gets if it is missing. In the settings they are the topics'.
    #[serde(skip)]
    pub partitions: u32,
    /// Bytes read at a time, about.
    pub read_bytes_max: usize,
    /// Milliseconds between two attempts while the broker is not available.
    pub retry_ms: u64,
}

impl Default for TailOptions {
    fn default() -> Self {
        Self { partitions: 8, read_bytes_max: 1 << 20, retry_ms: 1_000 }
    }
}

/// Reads the topics of ticks and alerts from their ends.
#[derive(Clone)]
pub struct Tail {
    /// The log.
    pub broker: Arc<dyn Broker>,
    /// What is told.
    pub board: Arc<Board>,
    /// Time, for the pauses between attempts.
    pub clock: Arc<dyn Clock>,
    /// Where it is said whether the topics can be read.
    pub health: Health,
    /// How to read.
    pub options: TailOptions,
}

impl Tail {
    /// Reads both topics until it is told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let topics = [TICKS_TOPIC, ALERTS_TOPIC];
        let tails = join_all(topics.map(|topic| self.topic(topic)));
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = tails => {}
        }
    }

    async fn topic(&self, topic: &'static str) {
        let health = self.health.component(&format!("tail of {topic}"));
        let partitions = loop {
            match self.broker.create_topic(topic, self.options.partitions).await {
                Ok(partitions) => break partitions,
                Err(BrokerError::Closed) => return health.not_ready("the broker is closed"),
                Err(error) => self.pause(&health, &error).await,
            }
        };
        health.ready();
        let partitions =
            (0..partitions).map(|partition| self.partition(topic, Partition(partition)));
        join_all(partitions).await;
    }

    async fn partition(&self, topic: &'static str, partition: Partition) {
        let health = self.health.component(&format!("tail of {topic}/{partition}"));
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
