//! A server node with an evaluator behind it, and callers of both APIs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tripline::adapters::broker::memory::{MemoryBroker, MemoryBrokerOptions};
use tripline::adapters::cache::moka::{MokaCache, MokaOptions};
use tripline::adapters::clock::{ManualClock, SeededRandom};
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::health::Health;
use tripline::metrics::Metrics;
use tripline::node::{Share, create_topics, evaluate};
use tripline::pipeline::Backoff;
use tripline::pipeline::collect::{DoorOptions, LogDoor};
use tripline::pipeline::evaluate::{EvaluateOptions, EvaluatorPorts};
use tripline::proto::usermanagement as um;
use tripline::proto::usermanagement::user_service_client::UserServiceClient;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::server::password::hash_password;
use tripline::server::secret::SecretKey;
use tripline::server::store::{AccountStore, Role};
use tripline::server::{Ports, Server, ServerError, ServerOptions};

const PARTITIONS: u32 = 2;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What outlives a node: the data, the log, the clock.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) dir: Arc<TempDir>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) broker: Arc<MemoryBroker>,
}

pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) store: SqliteStore,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) stop: CancellationToken,
    join: JoinHandle<Result<(), ServerError>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            clock: Arc::new(ManualClock::new("2026-01-01T12:00:00Z".parse().unwrap())),
            broker: Arc::new(MemoryBroker::new(MemoryBrokerOptions::default())),
        }
    }

    /// The store, as another process would open it.
    pub(crate) async fn store(&self) -> SqliteStore {
        let path = self.dir.path().join("tripline.db");
        let (options, clock) = (SqliteStoreOptions::default(), self.clock.clone());
        let store = SqliteStore::open(&path, options, clock).await.unwrap();
        create_topics(&*self.broker, &store, PARTITIONS).await.unwrap();
        store
    }

    pub(crate) async fn ports(&self, store: &SqliteStore) -> Ports {
        let store = Arc::new(store.clone());
        let (clock, metrics) = (self.clock.clone(), Metrics::new("test"));
        let options = DoorOptions { ahead_s_max: 60 };
        Ports {
            commands: store.clone(),
            accounts: store.clone(),
            queries: store.clone(),
            operator: store,
            cache: Arc::new(MokaCache::new(MokaOptions::default(), clock.clone())),
            broker: self.broker.clone(),
            door: Arc::new(LogDoor::new(
                self.broker.clone(),
                clock.clone(),
                metrics.clone(),
                PARTITIONS,
                options,
            )),
            market: None,
            clock,
            random: Arc::new(SeededRandom::new(1)),
            secret: SecretKey::new([7; 32]),
            metrics,
            health: Health::new(),
            pages: None,
        }
    }

    /// A node over this world, another process as it were.
    pub(crate) async fn node(&self, change: impl FnOnce(&mut ServerOptions)) -> Node {
        let store = self.store().await;
        let ports = self.ports(&store).await;
        let (metrics, health) = (ports.metrics.clone(), ports.health.clone());
        let stop = CancellationToken::new();
        let mut options = options();
        change(&mut options);
        let running = Server::start(options, ports, stop.clone()).await.unwrap();
        let node = Node {
            world: self.clone(),
            grpc: running.grpc_addr,
            http: running.http_addr,
            store,
            metrics,
            health: health.clone(),
            stop,
            join: running.join,
        };
        // The tails must know where they begin before anything is published.
        let mut changes = health.changes();
        within(async {
            while !health.is_ready() {
                changes.changed().await.unwrap();
            }
        })
        .await;
        node
    }
}

impl Node {
    pub(crate) async fn start() -> Self {
        World::new().node(|_| ()).await
    }

    /// Runs the evaluator beside the server, until the node stops.
    pub(crate) fn evaluate(&self) {
        let ports = EvaluatorPorts {
            broker: self.world.broker.clone(),
            store: Arc::new(self.store.clone()),
            clock: self.world.clock.clone(),
            backoff: Backoff::new(self.world.clock.clone(), Arc::new(SeededRandom::new(1))),
            metrics: self.metrics.clone(),
            group: "group1".to_owned(),
            alert_partitions: PARTITIONS,
            options: EvaluateOptions {
                alerts_max: 10_000,
                read_bytes_max: 1 << 20,
                changes_max: 1_000,
                // No tick waits for others: tests read what was committed.
                records_max: 1,
                flush_ms: 0,
                load_rows: 1_000,
            },
        };
        let share = Share::all(PARTITIONS, Health::new(), self.stop.clone());
        tokio::spawn(evaluate(ports, share));
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Channel {
        connect(self.grpc).await
    }

    pub(crate) async fn legacy(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.connect().await)
    }

    /// An account of a role, and a token of it.
    pub(crate) async fn login(&self, email: &str, role: Role) -> String {
        let hash = hash_password("secret").unwrap();
        let email: tripline::model::Email = email.parse().unwrap();
        self.store.put_account(&email, Some(role), Some(&hash)).await.unwrap();
        let mut accounts = AccountsClient::new(self.connect().await);
        login(&mut accounts, email.as_str(), "secret").await.unwrap()
    }

    /// The value of a series on the metrics page.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.page();
        let line = page.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is missing in\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn stop(self) -> World {
        self.stop.cancel();
        within(self.join).await.unwrap().unwrap();
        self.world
    }
}

pub(crate) fn options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.grpc.listen.set_port(0);
    options.http.listen.set_port(0);
    options
}

pub(crate) async fn connect(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

/// What must come in time.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

pub(crate) async fn login(
    accounts: &mut AccountsClient<Channel>,
    email: &str,
    password: &str,
) -> Result<String, tonic::Status> {
    let request = v1::LoginRequest { email: email.to_owned(), password: password.to_owned() };
    Ok(accounts.login(request).await?.into_inner().token)
}

/// A request with a token.
pub(crate) fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    set(&mut request, "authorization", &format!("Bearer {token}"));
    request
}

/// That, with a request id.
pub(crate) fn with_id<T>(token: &str, id: &str, message: T) -> Request<T> {
    let mut request = with(token, message);
    set(&mut request, "request-id", id);
    request
}

/// A request of the original's client.
pub(crate) fn from<T>(user: &str, id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    set(&mut request, "user_id", user);
    set(&mut request, "request_id", id);
    request
}

pub(crate) fn set<T>(request: &mut Request<T>, name: &'static str, value: &str) {
    let value: MetadataValue<Ascii> = value.parse().unwrap();
    request.metadata_mut().insert(name, value);
}

pub(crate) fn registration(email: &str) -> um::UserRegisterRequest {
    um::UserRegisterRequest {
        email: email.to_owned(),
        password: "secret".to_owned(),
        ticker: "AAPL".to_owned(),
        low_value: 100.0,
        high_value: 150.1,
    }
}

pub(crate) fn identifier(email: &str) -> um::UserIdentifier {
    um::UserIdentifier { email: email.to_owned() }
}

pub(crate) fn tick(symbol: &str, time: &str, price: &str) -> v1::TickInput {
    v1::TickInput {
        symbol: symbol.to_owned(),
        time: time.to_owned(),
        price: price.to_owned(),
        currency: String::new(),
    }
}
