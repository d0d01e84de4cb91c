//! The log of the settings, opened for an operator.

use std::sync::Arc;

use clap::Args;
use futures::future::try_join_all;

use super::super::failure::Failure;
use super::super::settings::SettingsArgs;
use super::super::setup;
use super::lines::Topic;
use crate::adapters::broker::kafka::KafkaBroker;
use crate::adapters::broker::prefixed::Prefixed;
use crate::adapters::broker::sqlite::SqliteLog;
use crate::adapters::clock::{SeededRandom, SystemClock};
use crate::config::{Flag, Settings};
use crate::model::Partition;
use crate::node::DataDir;
use crate::pipeline::broker::{Bounds, Broker, BrokerError};

// Which log, and how to print. (A doc comment would replace that of the command.)
#[derive(Args, Debug)]
pub(super) struct Place {
    #[command(flatten)]
    settings: SettingsArgs,

    /// Kafka brokers, of which one must answer. [default: kafka.bootstrap]
    #[arg(long, value_name = "HOST:PORT,...")]
    kafka: Option<String>,

    /// The data folder of an embedded log. [default: tripline-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Prints JSON lines, also on a terminal.
    #[arg(long)]
    pub(super) json: bool,
}

/// An open log.
pub(super) enum Log {
    /// Of a data folder that no other process has meanwhile.
    Embedded { log: SqliteLog, _folder: DataDir },
    /// Kafka.
    Kafka { broker: Arc<KafkaBroker>, prefixed: Arc<dyn Broker> },
}

impl Place {
    pub(super) async fn open(self) -> Result<Log, Failure> {
        Log::open(self.settings(None)?).await
    }

    /// The settings, with `mysql` in place of their database.
    pub(super) fn settings(self, mysql: Option<String>) -> Result<Settings, Failure> {
        let flags = [
            ("--kafka", "kafka.bootstrap", self.kafka),
            ("--data-dir", "data.dir", self.data_dir),
            ("--mysql", "mysql.url", mysql),
        ];
        let flags = flags.into_iter().filter_map(|(name, key, value)| {
            Some(Flag { name: name.to_owned(), key: key.to_owned(), value: value? })
        });
        Ok(self.settings.load(flags.collect())?.settings)
    }
}

impl Log {
    pub(super) async fn open(settings: Settings) -> Result<Self, Failure> {
        if settings.kafka.bootstrap.is_empty() {
            embedded(settings).await
        } else {
            kafka(&settings)
        }
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
    Ok(Log::Embedded { log: log.map_err(|error| failed(&error))?, _folder: folder })
}

fn kafka(settings: &Settings) -> Result<Log, Failure> {
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SeededRandom::from_host()));
    let broker = KafkaBroker::new(settings.kafka(), clock, random, setup::metrics());
    let broker = Arc::new(broker.map_err(|error| failed(&error))?);
    let prefixed = Prefixed::over(broker.clone(), &settings.topics.prefix);
    Ok(Log::Kafka { broker, prefixed })
}

impl Log {
    pub(super) fn broker(&self) -> &dyn Broker {
        match self {
            Self::Embedded { log, .. } => log,
            Self::Kafka { prefixed, .. } => prefixed.as_ref(),
        }
    }

    /// Where each partition of a topic begins and ends; nothing for a topic that is not there.
    pub(super) async fn bounds(&self, topic: Topic) -> Result<Vec<Bounds>, Failure> {
        let partitions = match self.broker().topic(topic.name()).await {
            Ok(topic) => topic.partitions,
            Err(BrokerError::UnknownTopic(_)) => 0,
            Err(error) => return Err(failed(&error)),
        };
        let bounds = (0..partitions)
            .map(|partition| self.broker().bounds(topic.name(), Partition(partition)));
        try_join_all(bounds).await.map_err(|error| failed(&error))
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Embedded { log, .. } => log.close().await,
            Self::Kafka { broker, .. } => broker.close().await,
        }
    }
}

pub(super) fn failed(error: &BrokerError) -> Failure {
    Failure::failed(error.to_string())
}
