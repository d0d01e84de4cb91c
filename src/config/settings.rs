//! The typed settings: one field a table of `config/default.toml`.
//!
//! A part's options are its own struct, beside the code that they bound; here are only those
//! of the whole program.

use std::path::PathBuf;

use serde::Deserialize;

use crate::adapters::broker::kafka::{KafkaOptions, TopicConfig};
use crate::adapters::broker::sqlite::SqliteLogOptions;
use crate::adapters::cache::moka::MokaOptions;
use crate::adapters::cache::redis::RedisOptions;
use crate::adapters::mailer::SmtpOptions;
use crate::adapters::market::{SimulatedOptions, YahooOptions};
use crate::adapters::otlp::TracingOptions;
use crate::adapters::store::mysql::MysqlOptions;
use crate::adapters::store::sqlite::SqliteStoreOptions;
use crate::node::{
    AdminOptions, CollectorOptions, MemberOptions, NotifyOptions, Roles, TopicOptions,
};
use crate::pipeline::collect::{DoorOptions, PollerOptions};
use crate::pipeline::evaluate::EvaluateOptions;
use crate::pipeline::notify::SenderOptions;
use crate::server::{LegacyOptions, ServerOptions};

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The process.
    pub graph: ProcessOptions,
    /// Where data is kept.
    pub data: DataOptions,
    /// The topics.
    pub topics: TopicOptions,
    /// How processes share the partitions.
    pub members: MemberOptions,
    /// The embedded log.
    pub broker: SqliteLogOptions,
    /// Kafka.
    pub kafka: KafkaOptions,
    /// The database that processes share.
    pub mysql: MysqlOptions,
    /// The store.
    pub store: SqliteStoreOptions,
    /// The request cache.
    pub cache: MokaOptions,
    /// The request cache that several servers share.
    pub redis: RedisOptions,
    /// Where prices come from.
    pub market: MarketOptions,
    /// The collector.
    pub collect: CollectOptions,
    /// The evaluator.
    pub evaluate: EvaluateOptions,
    /// The notifier.
    pub notify: NotifyOptions,
    /// The sender.
    pub deliver: SenderOptions,
    /// Who takes the mails.
    pub mail: MailOptions,
    /// The admin node.
    pub admin: AdminOptions,
    /// The server.
    pub server: ServerOptions,
    /// The original's API.
    pub legacy: LegacyOptions,
    /// What is logged.
    pub log: LogOptions,
    /// What is traced.
    pub tracing: TracingOptions,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessOptions {
    /// The nodes that run in it.
    pub roles: Roles,
    /// How long a stop waits for what has begun, in milliseconds.
    pub stop_ms_max: u64,
    /// Whether memory comes in huge pages.
    pub huge_pages: bool,
}

/// Where data is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOptions {
    /// The folder of the store, the log and the mails as files.
    pub dir: PathBuf,
}

/// Where prices come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarketOptions {
    /// `yahoo`, `simulated`, `replay=FILE[@SPEED]` or `none`.
    pub source: String,
    /// Yahoo Finance.
    pub yahoo: YahooOptions,
    /// Random walks.
    pub simulated: SimulatedOptions,
}

/// The collector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectOptions {
    /// Symbols whose trouble with the source is remembered.
    pub symbol_notes_max: usize,
    /// The door for ticks.
    pub door: DoorOptions,
    /// Asking a source for prices.
    pub poll: PollerOptions,
    /// Counting and stating ages.
    pub report: CollectorOptions,
}

/// Who takes the mails.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailOptions {
    /// `console`, `files`, or the URL of a mail server.
    pub mailer: String,
    /// How to talk to a mail server.
    pub smtp: SmtpOptions,
}

/// What is logged to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOptions {
    /// A level, or directives of tracing-subscriber.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The most partitions that a topic may have.
const PARTITIONS_MAX: u32 = 1_024;
/// No node appends more bytes at once; a log that takes less would stop the node for good.
const APPEND_BYTES: usize = 600_000;

impl Settings {
    /// Whether the graph is embedded: a log and a store in the data folder, and no other service.
    pub fn is_embedded(&self) -> bool {
        self.kafka.bootstrap.is_empty() && self.mysql.url.is_empty()
    }

    /// How to reach Kafka, and what topics are created with there.
    pub fn kafka(&self) -> KafkaOptions {
        let topics = &self.topics;
        let topic = TopicConfig {
            replication_factor: topics.replication_factor,
            min_insync_replicas: topics.min_insync_replicas,
            retention_ms: Some(topics.retention_ms).filter(|ms| *ms > 0),
            cleanup_policy: topics.cleanup_policy.clone(),
        };
        KafkaOptions { topic, ..self.kafka.clone() }
    }

    /// What keeps a process from running with these settings, if anything: they say in part that
    /// it is embedded and in part that it is not. Commands that need one service only may go on.
    pub fn contradiction(&self) -> Option<String> {
        let (kafka, mysql) = (!self.kafka.bootstrap.is_empty(), !self.mysql.url.is_empty());
        let without = |missing: &str| {
            Some(format!("{missing}: expected kafka.bootstrap and mysql.url or neither, found one"))
        };
        match (kafka, mysql) {
            (true, false) => without("mysql.url"),
            (false, true) => without("kafka.bootstrap"),
            (false, false) if !self.redis.url.is_empty() => Some(
                "redis.url: expected kafka.bootstrap and mysql.url with it; one process keeps its \
                 requests in memory"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The options that are against a rule of the whole program, and what is wrong with each.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let partitions = self.topics.partitions;
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            let cause = format!("expected 1 to {PARTITIONS_MAX}, found {partitions}");
            faults.push(("topics.partitions", cause));
        }
        let MemberOptions { heartbeat_ms, lease_ms } = self.members;
        if heartbeat_ms == 0 || lease_ms < 2 * heartbeat_ms {
            let cause = format!(
                "expected at least twice members.heartbeat_ms, which is 1 or more, found \
                 {lease_ms} and {heartbeat_ms}"
            );
            faults.push(("members.lease_ms", cause));
        }
        let TopicOptions { replication_factor, min_insync_replicas, .. } = self.topics;
        if !(1..=replication_factor).contains(&min_insync_replicas) {
            let cause = format!(
                "expected 1 to topics.replication_factor, {replication_factor}, found \
                 {min_insync_replicas}"
            );
            faults.push(("topics.min_insync_replicas", cause));
        }
        let policy = self.topics.cleanup_policy.as_str();
        if !["delete", "compact", "compact,delete"].contains(&policy) {
            let cause = format!("expected delete, compact or compact,delete, found {policy:?}");
            faults.push(("topics.cleanup_policy", cause));
        }
        let evaluate = &self.evaluate;
        for (key, value) in [
            ("evaluate.read_bytes_max", evaluate.read_bytes_max as u64),
            ("evaluate.changes_max", evaluate.changes_max.into()),
            ("evaluate.records_max", evaluate.records_max),
            ("evaluate.load_rows", evaluate.load_rows.into()),
        ] {
            if value == 0 {
                faults.push((key, "expected at least 1, found 0".to_owned()));
            }
        }
        for (key, found) in [
            ("broker.batch_bytes_max", self.broker.batch_bytes_max),
            ("kafka.batch_bytes_max", self.kafka.batch_bytes_max),
        ] {
            if found < APPEND_BYTES {
                faults.push((key, format!("expected at least {APPEND_BYTES}, found {found}")));
            }
        }
        if self.data.dir.as_os_str().is_empty() {
            faults.push(("data.dir", "expected a folder, found no text".to_owned()));
        }
        faults.extend(self.tracing.check().err());
        if let Err(cause) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            faults.push(("log.filter", format!("expected a level or directives, found {cause}")));
        }
        faults
    }
}
