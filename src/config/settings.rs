//! The typed settings: one field a table of `config/default.toml`.
//!
//! A part's options are its own struct, beside the code that they bound; here are only those
//! of the whole program.

use std::path::PathBuf;

use serde::Deserialize;

use crate::pipeline::collect::DoorOptions;
use crate::pipeline::evaluate::EvaluateOptions;

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where data is kept.
    pub data: DataOptions,
    /// The topics.
    pub topics: TopicOptions,
    /// The door for ticks.
    pub collect: DoorOptions,
    /// The evaluator.
    pub evaluate: EvaluateOptions,
    /// What is logged.
    pub log: LogOptions,
}

/// Where data is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOptions {
    /// The folder of the store, the log and the mails as files.
    pub dir: PathBuf,
}

/// The topics of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicOptions {
    /// Partitions of the ticks' topic.
    pub ticks_partitions: u32,
    /// Partitions of the alerts' topic.
    pub alerts_partitions: u32,
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
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The most partitions that a topic may have.
const PARTITIONS_MAX: u32 = 1_024;

impl Settings {
    /// The options that are against a rule of the whole program, and what is wrong with each.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let topics = &self.topics;
        for (key, partitions) in [
            ("topics.ticks_partitions", topics.ticks_partitions),
            ("topics.alerts_partitions", topics.alerts_partitions),
        ] {
            if !(1..=PARTITIONS_MAX).contains(&partitions) {
                faults.push((key, format!("expected 1 to {PARTITIONS_MAX}, found {partitions}")));
            }
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
        if self.data.dir.as_os_str().is_empty() {
            faults.push(("data.dir", "expected a folder, found no text".to_owned()));
        }
        if let Err(cause) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            faults.push(("log.filter", format!("expected a level or directives, found {cause}")));
        }
        faults
    }
}
