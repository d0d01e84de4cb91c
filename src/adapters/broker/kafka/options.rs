//! How to reach Kafka, and in which portions.

use std::path::PathBuf;
use std::time::Duration;

use rskafka::client::partition::Compression as Codec;
use serde::Deserialize;

use crate::pipeline::broker::BrokerError;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaslMechanism {
    /// Not at all.
    #[default]
    None,
    /// By its password, as it is: over TLS only.
    Plain,
    /// By SCRAM with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// By SCRAM with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// Its registered name.
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Plain => Some("PLAIN"),
            Self::ScramSha256 => Some("SCRAM-SHA-256"),
            Self::ScramSha512 => Some("SCRAM-SHA-512"),
        }
    }
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

impl Compression {
    pub(super) const fn codec(self) -> Codec {
        match self {
            Self::None => Codec::NoCompression,
            Self::Gzip => Codec::Gzip,
            Self::Lz4 => Codec::Lz4,
            Self::Snappy => Codec::Snappy,
        }
    }
}

/// How one kind of records is produced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerOptions {
    /// Milliseconds that a batch waits for more. What arrives while a request is in flight forms
    /// the next batch anyway.
    pub linger_ms: u64,
}

/// What a topic is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Copies of each partition.
    pub replication_factor: u16,
    /// Copies that must have a record before it counts as appended.
    pub min_insync_replicas: u16,
    /// Milliseconds for which records are kept; `None`: for ever.
    pub retention_ms: Option<u64>,
    /// `delete` or `compact`.
    pub cleanup_policy: String,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            replication_factor: 3,
            min_insync_replicas: 2,
            retention_ms: Some(7 * 24 * 60 * 60 * 1_000),
            cleanup_policy: "delete".to_owned(),
        }
    }
}

/// How to reach Kafka, and in which portions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaOptions {
    /// Brokers to ask for the others, as `HOST:PORT`. Empty: Kafka is not used.
    pub bootstrap: Vec<String>,
    /// The name under which brokers know this client, in logs and quotas.
    pub client_id: String,
    /// Whether to speak TLS.
    pub tls: bool,
    /// A PEM file of certificate authorities to trust besides the public ones.
    pub root_ca_file: Option<PathBuf>,
    /// How to log in.
    pub sasl_mechanism: SaslMechanism,
    /// The user's name.
    pub sasl_username: Option<String>,
    /// The user's password.
    pub sasl_password: Option<String>,
    /// How batches are compressed.
    pub compression: Compression,
    /// The ticks' producer.
    pub ticks: ProducerOptions,
    /// The alerts' producer.
    pub alerts: ProducerOptions,
    /// Bytes of records in one append, and in one request.
    pub batch_bytes_max: usize,
    /// Appends to a partition that wait for the one in flight; further callers wait until there
    /// is room.
    pub append_queue_len: usize,
    /// How often a batch is sent again after it was refused, or its outcome is unknown.
    pub retries_max: u32,
    /// The first and the longest wait before that, in milliseconds, less a jitter of up to half.
    pub retry_backoff_ms: u64,
    /// See `retry_backoff_ms`.
    pub retry_backoff_ms_max: u64,
    /// Milliseconds from an append until its caller is told that it failed, waiting for the
    /// batch before it included.
    pub delivery_timeout_ms: u64,
    /// How long one attempt to produce may take, in milliseconds; more than the brokers'
    /// `broker.session.timeout.ms`.
    pub produce_timeout_ms: u64,
    /// How long any other request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long connecting and finding a partition's leader may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Bytes of one fetch, as they are compressed.
    pub fetch_bytes_max: u32,
    /// Bytes of the newest records kept in memory, for each partition that is followed.
    pub tail_bytes_per_partition: usize,
    /// How long a fetch at the end of a partition waits for more, in milliseconds.
    pub fetch_wait_ms: u32,
    /// Seconds without a reader after which a partition's end is no longer followed.
    pub idle_s: u64,
    /// Milliseconds between two commits of a group's offsets.
    pub commit_interval_ms: u64,
    /// What topics are created with. In the settings it comes from `topics`.
    #[serde(skip)]
    pub topic: TopicConfig,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            client_id: "tripline".to_owned(),
            tls: false,
            root_ca_file: None,
            sasl_mechanism: SaslMechanism::None,
            sasl_username: None,
            sasl_password: None,
            compression: Compression::Gzip,
            ticks: ProducerOptions::default(),
            alerts: ProducerOptions::default(),
            batch_bytes_max: 1_000_000,
            append_queue_len: 256,
            retries_max: 3,
            retry_backoff_ms: 100,
            retry_backoff_ms_max: 1_000,
            delivery_timeout_ms: 60_000,
            produce_timeout_ms: 15_000,
            request_timeout_ms: 10_000,
            connect_timeout_ms: 3_000,
            fetch_bytes_max: 1_024 * 1_024,
            tail_bytes_per_partition: 4 * 1_024 * 1_024,
            fetch_wait_ms: 5_000,
            idle_s: 60,
            commit_interval_ms: 500,
            topic: TopicConfig::default(),
        }
    }
}

/// The largest frame and batch that this adapter handles.
const BYTES_LIMIT: usize = 64 * 1_024 * 1_024;

impl KafkaOptions {
    /// Refuses options that nothing could work with.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        self.fault().map_or(Ok(()), |fault| Err(BrokerError::Permanent(format!("kafka.{fault}"))))
    }

    fn fault(&self) -> Option<String> {
        if self.bootstrap.is_empty() {
            return Some("bootstrap: expected at least one HOST:PORT, found none".to_owned());
        }
        for address in &self.bootstrap {
            let port = address.rsplit_once(':').and_then(|(host, port)| {
                if host.is_empty() { None } else { port.parse::<u16>().ok() }
            });
            if port.is_none_or(|port| port == 0) {
                return Some(format!("bootstrap: expected HOST:PORT, found {address:?}"));
            }
        }
        let credentials = self.sasl_username.is_some() && self.sasl_password.is_some();
        if self.sasl_mechanism != SaslMechanism::None && !credentials {
            return Some(
                "sasl_mechanism: expected sasl_username and sasl_password with it, found not both"
                    .to_owned(),
            );
        }
        for (name, zero) in [
            ("append_queue_len", self.append_queue_len == 0),
            ("delivery_timeout_ms", self.delivery_timeout_ms == 0),
            ("produce_timeout_ms", self.produce_timeout_ms == 0),
            ("request_timeout_ms", self.request_timeout_ms == 0),
            ("connect_timeout_ms", self.connect_timeout_ms == 0),
            ("commit_interval_ms", self.commit_interval_ms == 0),
            ("idle_s", self.idle_s == 0),
            ("retry_backoff_ms", self.retry_backoff_ms == 0),
        ] {
            if zero {
                return Some(format!("{name}: expected at least 1, found 0"));
            }
        }
        for (name, found) in [
            ("batch_bytes_max", self.batch_bytes_max),
            ("fetch_bytes_max", self.fetch_bytes_max as usize),
        ] {
            if !(1..=BYTES_LIMIT).contains(&found) {
                return Some(format!("{name}: expected 1 to {BYTES_LIMIT}, found {found}"));
            }
        }
        None
    }

    /// How long a batch for `topic` waits for more.
    pub(super) fn linger(&self, topic: &str) -> Duration {
        Duration::from_millis(match topic {
            name if name.ends_with(TICKS_TOPIC) => self.ticks.linger_ms,
            name if name.ends_with(ALERTS_TOPIC) => self.alerts.linger_ms,
            _ => 0,
        })
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// The largest answer of a broker that is read.
    pub(super) fn frame_bytes_max(&self) -> usize {
        // One batch may be larger than what a fetch asks for.
        BYTES_LIMIT + self.fetch_bytes_max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        let good =
            KafkaOptions { bootstrap: vec!["kafka-1:9092".into()], ..KafkaOptions::default() };
        assert_eq!(good.check(), Ok(()));
        let sasl_mechanism = SaslMechanism::ScramSha512;
        for (bad, name) in [
            (KafkaOptions { bootstrap: Vec::new(), ..good.clone() }, "bootstrap"),
            (KafkaOptions { bootstrap: vec!["kafka-1".into()], ..good.clone() }, "bootstrap"),
            (KafkaOptions { bootstrap: vec![":9092".into()], ..good.clone() }, "bootstrap"),
            (KafkaOptions { sasl_mechanism, ..good.clone() }, "sasl_mechanism"),
            (KafkaOptions { append_queue_len: 0, ..good.clone() }, "append_queue_len"),
            (KafkaOptions { batch_bytes_max: 0, ..good.clone() }, "batch_bytes_max"),
            (KafkaOptions { fetch_bytes_max: u32::MAX, ..good.clone() }, "fetch_bytes_max"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(&format!("kafka.{name}: expected")), "{error}");
        }
    }
}
