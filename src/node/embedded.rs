//! The whole graph in one process over one data folder, with no other service.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Feed, Graph, GraphOptions, Role, Shared, StartError, Stores, create_topics};
use crate::adapters::broker::sqlite::SqliteLog;
use crate::adapters::cache::moka::MokaCache;
use crate::adapters::clock::{SeededRandom, SystemClock};
use crate::adapters::store::sqlite::SqliteStore;
use crate::config::Settings;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::model::{Email, Offset, Partition, WatchSpec};
use crate::pipeline::broker::{Broker, BrokerError};
use crate::pipeline::clock::Clock;
use crate::pipeline::members::Alone;
use crate::pipeline::notify::Mailer;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
use crate::pipeline::store::StoreError;
use crate::server::secret::{SecretError, SecretKey};
use crate::server::store::CommandStore;

/// Why an embedded graph did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The folder cannot be made or used.
    #[error("the data folder {}: {error}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        error: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "the data folder {} is in use by another tripline process: stop that one, or choose \
         another folder with --data-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] BrokerError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key of request fingerprints cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The graph did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A data folder that this process alone embeds, for as long as this is held.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is missing, for its owner only, and locks it.
    pub fn open(path: &Path) -> Result<Self, EmbedError> {
        let folder = |error| EmbedError::Folder { path: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(folder)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(folder)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(EmbedError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(folder(error)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store is, in any data folder.
    pub fn store_file(folder: &Path) -> PathBuf {
        folder.join("store.db")
    }
}

/// Watches to create before the graph starts.
pub struct Import {
    /// Tells this file's content from another's.
    pub content: [u8; 32],
    /// The watches, in order.
    pub watches: Vec<(Email, WatchSpec)>,
}

/// An embedded graph that runs.
pub struct Embedded {
    /// The graph.
    pub graph: Graph,
    /// The store.
    pub store: SqliteStore,
    /// The metrics.
    pub metrics: Metrics,
    log: Arc<SqliteLog>,
    folder: DataDir,
}

impl Embedded {
    /// Opens the folder's store and log and starts the graph over them.
    pub async fn start(
        folder: DataDir,
        settings: &Settings,
        import: Option<Import>,
        mailer: Arc<dyn Mailer>,
        feed: Feed,
        metrics: Metrics,
    ) -> Result<Self, EmbedError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let path = folder.path();
        let partitions = settings.topics.partitions;
        let store_file = DataDir::store_file(path);
        let log_file = path.join("log.db");
        let store = SqliteStore::open(&store_file, settings.store.clone(), clock.clone());
        let log = SqliteLog::open(&log_file, settings.broker.clone(), clock.clone());
        let secret_file = path.join("secret.key");
        let spelled = settings.server.fingerprint_key.clone();
        let secret = tokio::task::spawn_blocking(move || match spelled.as_str() {
            "" => SecretKey::load_or_create(&secret_file),
            spelled => SecretKey::from_hex(spelled),
        });
        let (store, log, secret) = tokio::join!(store, log, secret);
        let (store, log) = (store?, Arc::new(log?));
        // The task only panics if the function does.
        let secret = secret.map_err(|error| StoreError::Permanent(error.to_string()))??;
        // Before anything is imported: the store must know of the partitions.
        create_topics(log.as_ref(), &store, partitions).await.map_err(StartError::from)?;
        log.keep_group(&settings.topics.group).await?;
        // Whoever claimed deliveries before is dead: this process alone has the folder.
        store.release_claims().await?;
        if let Some(import) = import {
            import_once(&store, import).await?;
        }
        let shared = Shared {
            broker: log.clone(),
            membership: Arc::new(Alone { partitions }),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::from_host()),
            metrics: metrics.clone(),
            health: Health::new(),
            pages: None,
            owner: format!("embedded-{}", uuid::Uuid::new_v4()),
        };
        let cache = Arc::new(MokaCache::new(settings.cache, clock));
        let options = GraphOptions::of(settings);
        let stores = Stores::of(store.clone());
        know_group(log.as_ref(), settings).await?;
        let graph = Graph::start(shared, stores, cache, secret, mailer, feed, options).await?;
        Ok(Self { graph, store, metrics, log, folder })
    }

    /// Stops the graph and closes the files. Returns whether all had ended within `patience`.
    pub async fn stop(self, patience: Duration) -> bool {
        let ended = self.graph.stop(patience).await;
        self.log.close().await;
        self.store.close().await;
        drop(self.folder);
        ended
    }
}

/// Creates watches, unless that was done before.
pub(super) async fn import_once(
    store: &dyn CommandStore,
    Import { content, watches }: Import,
) -> Result<(), StoreError> {
    match store.import(content, &watches).await? {
        Some(created) => tracing::info!(watches = created, "watches were created"),
        None => tracing::info!("this content of --watches was loaded before"),
    }
    Ok(())
}

/// Makes the consumer group known for the topics whose consumer does not run in this process, so
/// that retention spares what it has not read. At 0, because only a consumer knows its position.
async fn know_group(log: &SqliteLog, settings: &Settings) -> Result<(), EmbedError> {
    let (topics, roles) = (&settings.topics, &settings.graph.roles);
    for (role, topic) in [(Role::Evaluator, TICKS_TOPIC), (Role::Notifier, ALERTS_TOPIC)] {
        if !roles.has(role) {
            for partition in (0..topics.partitions).map(Partition) {
                log.commit(&topics.group, topic, partition, Offset(0)).await?;
            }
        }
    }
    Ok(())
}
