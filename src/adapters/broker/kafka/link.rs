//! Connections of rskafka to the leaders of partitions, made anew after every failure.
//!
//! rskafka keeps to the brokers and leaders that it knows, retries by itself for as long as it
//! is let, and waits for answers for ever. So it is given no retries and a time for every step,
//! and whatever failed is dropped together with all that it had learnt.

use std::sync::Arc;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use tokio::sync::Mutex;

use super::failure::Failure;
use super::options::KafkaOptions;
use super::security;
use crate::model::Partition;

/// A connection to the leader of a partition.
pub(super) struct Line {
    /// The connection.
    pub(super) client: PartitionClient,
    /// Which knowledge of the cluster it rests on.
    generation: u64,
}

/// What connections are made from.
pub(super) struct Link {
    options: Arc<KafkaOptions>,
    tls: Option<Arc<rustls::ClientConfig>>,
    known: Mutex<Known>,
}

/// What is known of the cluster.
#[derive(Default)]
struct Known {
    generation: u64,
    client: Option<Arc<Client>>,
}

impl Link {
    /// No connection yet. The error says what is wrong with the options.
    pub(super) fn new(options: Arc<KafkaOptions>) -> Result<Self, String> {
        let tls = security::tls(&options)?;
        Ok(Self { options, tls, known: Mutex::default() })
    }

    /// Connects to the leader of a partition that exists.
    pub(super) async fn connect(&self, topic: &str, partition: Partition) -> Result<Line, Failure> {
        let (generation, client) = self.client().await.map_err(Failure::NotSent)?;
        let index = i32::try_from(partition.0).unwrap_or(i32::MAX);
        let connect = client.partition_client(topic, index, UnknownTopicHandling::Error);
        match self.within("finding the leader", connect).await {
            Ok(client) => Ok(Line { client, generation }),
            Err(cause) => {
                self.forget(generation).await;
                Err(Failure::NotSent(format!("no leader of {topic}/{partition}: {cause}")))
            }
        }
    }

    /// Drops a connection that failed, and what was known of the cluster when it was made.
    pub(super) async fn lost(&self, line: Line) {
        self.forget(line.generation).await;
    }

    async fn forget(&self, generation: u64) {
        let mut known = self.known.lock().await;
        if known.generation == generation {
            known.client = None;
        }
    }

    /// What is known of the cluster, asked anew of the bootstrap addresses if it was dropped.
    async fn client(&self) -> Result<(u64, Arc<Client>), String> {
        let mut known = self.known.lock().await;
        if let Some(client) = &known.client {
            return Ok((known.generation, client.clone()));
        }
        let options = &self.options;
        let mut builder = ClientBuilder::new(options.bootstrap.clone())
            .client_id(options.client_id.as_str())
            .max_message_size(options.frame_bytes_max())
            // With no time to retry in, every call fails at its first failure.
            .backoff_config(BackoffConfig {
                deadline: Some(Duration::ZERO),
                ..BackoffConfig::default()
            });
        if let Some(tls) = &self.tls {
            builder = builder.tls_config(tls.clone());
        }
        if let Some(sasl) = security::sasl(options) {
            builder = builder.sasl_config(sasl);
        }
        let client = Arc::new(self.within("connecting", builder.build()).await?);
        known.generation += 1;
        known.client = Some(client.clone());
        Ok((known.generation, client))
    }

    async fn within<T>(
        &self,
        what: &str,
        step: impl Future<Output = Result<T, rskafka::client::error::Error>>,
    ) -> Result<T, String> {
        let limit = self.options.connect_timeout();
        match tokio::time::timeout(limit, step).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("{what} took longer than {limit:?}")),
        }
    }
}
