//! The log of the settings, opened for an operator.

use std::sync::Arc;

use clap::Args;

use super::super::failure::Failure;
use super::super::settings::SettingsArgs;
use super::lines::Topic;
use crate::adapters::broker::sqlite::SqliteLog;
use crate::adapters::clock::SystemClock;
use crate::config::{Flag, Settings};
use crate::model::Partition;
use crate::node::DataDir;
use crate::pipeline::broker::{Bounds, Broker, BrokerError};

// Which log, and how to print. (A doc comment would replace that of the command.)
#[derive(Args, Debug)]
pub(super) struct Place {
    #[command(flatten)]
    settings: SettingsArgs,

    /// The data folder of an embedded log. [default: tripline-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Prints JSON lines, also on a terminal.
    #[arg(long)]
    pub(super) json: bool,
}

/// An open log.
pub(super) struct Log {
    embedded: Arc<SqliteLog>,
    _folder: DataDir,
}

impl Place {
    pub(super) async fn open(self) -> Result<Log, Failure> {
        let flag = self.data_dir.map(|value| {
            let (name, key) = ("--data-dir".to_owned(), "data.dir".to_owned());
            Flag { name, key, value }
        });
        let settings = self.settings.load(flag.into_iter().collect())?.settings;
        embedded(settings).await
    }
}

async fn embedded(settings: Settings) -> Result<Log, Failure> {
    let path = &settings.data.dir;
    let file = path.join("log.db");
    if !file.exists() {
        let message = format!("expected a log, found none in {}", path.display());
        return Err(Failure::failed(message).or_next(
            "name the folder with --data-dir; `tripline serve` makes a new one when it starts",
        ));
    }
    // No other process has it while this one reads.
    let folder = DataDir::open(path).map_err(|error| Failure::failed(error.to_string()))?;
    let log = SqliteLog::open(&file, settings.broker, Arc::new(SystemClock)).await;
    let embedded = Arc::new(log.map_err(|error| failed(&error))?);
    Ok(Log { embedded, _folder: folder })
}

impl Log {
    pub(super) fn broker(&self) -> &dyn Broker {
        self.embedded.as_ref()
    }

    /// Where each partition of a topic begins and ends; nothing for a topic that is not there.
    pub(super) async fn bounds(&self, topic: Topic) -> Result<Vec<Bounds>, Failure> {
        let mut all = Vec::new();
        for partition in (0..).map(Partition) {
            match self.broker().bounds(topic.name(), partition).await {
                Ok(bounds) => all.push(bounds),
                Err(BrokerError::Unknown { .. }) => break,
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(all)
    }

    pub(super) async fn close(&self) {
        self.embedded.close().await;
    }
}

pub(super) fn failed(error: &BrokerError) -> Failure {
    Failure::failed(error.to_string())
}
