//! What a graph is put together from: ports, feeds and options.

use std::sync::Arc;

use serde::Deserialize;

use super::{AdminOptions, CollectorOptions, MemberOptions, Roles};
use crate::config::Settings;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::collect::{CollectStore, DoorOptions, PollerOptions, Quotes, TickStream};
use crate::pipeline::evaluate::{EvaluateOptions, EvaluateStore};
use crate::pipeline::members::Membership;
use crate::pipeline::notify::{NotifyStore, SenderOptions, SenderOptionsError};
use crate::pipeline::store::StoreError;
use crate::server::http::Pages;
use crate::server::store::{AccountStore, CommandStore, OperatorStore, QueryStore};
use crate::server::{ServerError, ServerOptions};

/// What every node of a process shares.
#[derive(Clone)]
pub struct Shared {
    /// The log between the nodes.
    pub broker: Arc<dyn Broker>,
    /// Who shares the partitions.
    pub membership: Arc<dyn Membership>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// What is ready.
    pub health: Health,
    /// The HTTP pages, if they are served already; `None`: the graph serves them.
    pub pages: Option<Pages>,
    /// The name of the process; no two running ones have the same.
    pub owner: String,
}

/// The store, as each node sees it.
#[derive(Clone)]
pub struct Stores {
    /// For the evaluator.
    pub evaluate: Arc<dyn EvaluateStore>,
    /// For the notifier.
    pub notify: Arc<dyn NotifyStore>,
    /// For the collector.
    pub collect: Arc<dyn CollectStore>,
    /// For commands.
    pub commands: Arc<dyn CommandStore>,
    /// For accounts and sessions.
    pub accounts: Arc<dyn AccountStore>,
    /// For queries.
    pub queries: Arc<dyn QueryStore>,
    /// For operators and the admin node.
    pub operator: Arc<dyn OperatorStore>,
}

impl Stores {
    /// One adapter for all of them.
    pub fn of<S>(store: S) -> Self
    where
        S: EvaluateStore
            + NotifyStore
            + CollectStore
            + CommandStore
            + AccountStore
            + QueryStore
            + OperatorStore,
    {
        let store = Arc::new(store);
        Self {
            evaluate: store.clone(),
            notify: store.clone(),
            collect: store.clone(),
            commands: store.clone(),
            accounts: store.clone(),
            queries: store.clone(),
            operator: store,
        }
    }
}

/// Where the collector's ticks come from.
pub enum Feed {
    /// From nowhere but those who push.
    None,
    /// From a source that is asked for each watched symbol.
    Polled(Arc<dyn Quotes>),
    /// From a source that sends of its own accord.
    Stream(Box<dyn TickStream>),
}

/// The topics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicOptions {
    /// Partitions of each topic. Fixed once the data folder exists.
    pub partitions: u32,
    /// The consumer group.
    pub group: String,
    /// What the names of the topics begin with, at Kafka.
    #[serde(default)]
    pub prefix: String,
    /// With Kafka: copies of each partition.
    pub replication_factor: u16,
    /// With Kafka: copies that must have a record before it counts as appended.
    pub min_insync_replicas: u16,
    /// With Kafka: milliseconds for which records are kept; 0: for ever.
    pub retention_ms: u64,
    /// With Kafka: `delete`, `compact` or both.
    pub cleanup_policy: String,
}

/// The notifier's reading.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyOptions {
    /// Bytes of records read at once.
    pub read_bytes_max: usize,
}

/// The options of every node.
#[derive(Clone, Debug)]
pub struct GraphOptions {
    /// The nodes to run.
    pub roles: Roles,
    /// The topics.
    pub topics: TopicOptions,
    /// How processes share the partitions.
    pub members: MemberOptions,
    /// The door for ticks.
    pub door: DoorOptions,
    /// The collector.
    pub collector: CollectorOptions,
    /// The poller before it.
    pub poller: PollerOptions,
    /// Symbols whose trouble with the source is remembered.
    pub symbol_notes_max: usize,
    /// The evaluator.
    pub evaluate: EvaluateOptions,
    /// The notifier.
    pub notify: NotifyOptions,
    /// The sender.
    pub deliver: SenderOptions,
    /// The admin node.
    pub admin: AdminOptions,
    /// The server.
    pub server: ServerOptions,
}

impl GraphOptions {
    /// The options of the nodes out of the settings.
    pub fn of(settings: &Settings) -> Self {
        let mut server = settings.server.clone();
        server.legacy = settings.legacy.clone();
        Self {
            roles: settings.graph.roles.clone(),
            topics: settings.topics.clone(),
            members: settings.members,
            door: settings.collect.door.clone(),
            collector: settings.collect.report.clone(),
            poller: settings.collect.poll.clone(),
            symbol_notes_max: settings.collect.symbol_notes_max,
            evaluate: settings.evaluate.clone(),
            notify: settings.notify.clone(),
            deliver: settings.deliver.clone(),
            admin: settings.admin.clone(),
            server,
        }
    }
}

/// Why a graph did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topics and the store do not fit together, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server's options or addresses do not work.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The sender's options contradict each other.
    #[error(transparent)]
    Sender(#[from] SenderOptionsError),
}
