//! One process of a graph that several share: any of the nodes, over Kafka, MySQL and, where it
//! is configured, Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::embedded::import_once;
use super::wait::keep_trying;
use super::{Feed, Graph, GraphOptions, Import, Role, Shared, StartError, Stores, create_topics};
use crate::adapters::broker::kafka::KafkaBroker;
use crate::adapters::broker::prefixed::Prefixed;
use crate::adapters::cache::moka::MokaCache;
use crate::adapters::cache::redis::{RedisCache, RedisUrlError};
use crate::adapters::clock::{SeededRandom, SystemClock};
use crate::adapters::store::mysql::MysqlStore;
use crate::config::Settings;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pipeline::Backoff;
use crate::pipeline::broker::{Broker, BrokerError};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::notify::Mailer;
use crate::pipeline::store::StoreError;
use crate::server::ServerError;
use crate::server::cache::RequestCache;
use crate::server::http;
use crate::server::secret::{SecretError, SecretKey};

/// Why a process did not start. What may still come is waited for instead.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Kafka cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] RedisUrlError),
    /// The key of request fingerprints is missing or none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The pages cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The nodes did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A process that runs.
pub struct Process {
    /// Its nodes.
    pub graph: Graph,
    broker: Arc<KafkaBroker>,
    store: MysqlStore,
    stop_pages: CancellationToken,
    pages: JoinHandle<Result<(), ServerError>>,
}

/// What a process waits with, and says so.
struct Waiting {
    health: Health,
    backoff: Backoff,
}

impl Process {
    /// Serves the pages, waits for Kafka and MySQL for as long as it takes, and starts the nodes.
    /// Redis is not waited for. Cancel-safe.
    pub async fn start(
        settings: &Settings,
        import: Option<Import>,
        mailer: Arc<dyn Mailer>,
        feed: Feed,
        metrics: Metrics,
    ) -> Result<Self, ProcessError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SeededRandom::from_host());
        let secret = match settings.graph.roles.has(Role::Server) {
            true => SecretKey::from_hex(&settings.server.fingerprint_key)?,
            false => SecretKey::new([0; 32]),
        };
        let cache: Arc<dyn RequestCache> = match settings.redis.url.as_str() {
            "" => Arc::new(MokaCache::new(settings.cache, clock.clone())),
            _ => Arc::new(RedisCache::new(settings.redis.clone(), settings.cache)?),
        };
        let (options, topics) = (settings.kafka(), &settings.topics);
        let kafka = KafkaBroker::new(options, clock.clone(), random.clone(), metrics.clone())?;
        let kafka = Arc::new(kafka);
        let broker = Prefixed::over(kafka.clone(), &topics.prefix);

        let (health, stop_pages) = (Health::new(), CancellationToken::new());
        // Entered before any of what it waits for is done with, and left after its nodes are.
        let starting = health.component("start");
        let http = &settings.server.http;
        let (pages, join) =
            http::start(http, metrics.clone(), health.clone(), stop_pages.clone()).await?;
        let waiting = Waiting {
            health: health.clone(),
            backoff: Backoff::new(clock.clone(), random.clone()),
        };
        let store = waiting.store(settings, &clock).await?;
        waiting.topics(broker.as_ref(), &store, topics.partitions).await?;
        if let Some(import) = import {
            import_once(&store, import).await?;
        }
        let shared = Shared {
            broker,
            membership: Arc::new(store.clone()),
            clock,
            random,
            metrics,
            health,
            pages: Some(pages),
            owner: owner(),
        };
        let stores = Stores::of(store.clone());
        let options = GraphOptions::of(settings);
        let graph = Graph::start(shared, stores, cache, secret, mailer, feed, options).await?;
        starting.gone();
        Ok(Self { graph, broker: kafka, store, stop_pages, pages: join })
    }

    /// Stops the nodes and closes the connections. Returns whether all had ended within
    /// `patience`.
    pub async fn stop(self, patience: Duration) -> bool {
        let ended = self.graph.stop(patience).await;
        self.broker.close().await;
        self.store.close().await;
        self.stop_pages.cancel();
        // Whoever still reads a page has had its time.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.pages).await;
        ended
    }
}

impl Waiting {
    async fn store(
        &self,
        settings: &Settings,
        clock: &Arc<dyn Clock>,
    ) -> Result<MysqlStore, StoreError> {
        let open = async || {
            MysqlStore::open(settings.mysql.clone(), settings.store.clone(), clock.clone()).await
        };
        keep_trying("mysql", &self.health, &self.backoff, StoreError::is_transient, open).await
    }

    async fn topics(
        &self,
        broker: &dyn Broker,
        store: &MysqlStore,
        partitions: u32,
    ) -> Result<(), StartError> {
        let create = async || create_topics(broker, store, partitions).await;
        let created =
            keep_trying("kafka", &self.health, &self.backoff, StoreError::is_transient, create);
        Ok(created.await?)
    }
}

/// A name that no other running process has, and that tells an operator which one it is.
fn owner() -> String {
    let host =
        hostname::get().map_or("localhost".into(), |name| name.to_string_lossy().into_owned());
    let host: String = host.chars().take(64).collect();
    format!("{host}-{}-{}", std::process::id(), uuid::Uuid::new_v4())
}
