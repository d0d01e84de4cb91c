//! How many changes of thresholds a second 64 clients get done: calls of `Watches.ChangeWatch` over
//! gRPC, each carried out once by its request id and committed in a real MySQL or MariaDB, while an
//! evaluator over connections of its own applies them. Each symbol has a price.
//!
//! The clients, the server, the evaluator, the brokers and the database share the same cores.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "../tests/support/mysql_server.rs"]
mod mysql_server;
mod production;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use mysql_server::Database;
use production::Kafka;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tripline::adapters::broker::kafka::KafkaBroker;
use tripline::adapters::clock::SystemClock;
use tripline::adapters::mailer::ConsoleMailer;
use tripline::metrics::Metrics;
use tripline::model::{Partition, Tick};
use tripline::node::{Feed, Process};
use tripline::pipeline::broker::Broker;
use tripline::pipeline::clock::Clock;
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC, encode_tick};
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::watches_client::WatchesClient;
use tripline::proto::v1::{ChangeWatchRequest, CreateWatchRequest, LoginRequest, RegisterRequest};

const CLIENTS: usize = 64;
/// Calls of each client in one measured run.
const CALLS: usize = 50;

/// One user with one watch.
struct Client {
    watches: WatchesClient<Channel>,
    token: MetadataValue<Ascii>,
    watch: u64,
    calls: u64,
}

impl Client {
    async fn new(addr: SocketAddr, number: usize) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        let channel = endpoint.tcp_nodelay(true).connect().await.unwrap();
        let (email, password) = (format!("user{number}@example.com"), "correct horse".to_owned());
        let mut accounts = AccountsClient::new(channel.clone());
        let register = RegisterRequest { email: email.clone(), password: password.clone() };
        accounts.register(register).await.unwrap();
        let login = accounts.login(LoginRequest { email, password }).await.unwrap();
        let token = format!("Bearer {}", login.into_inner().token).parse().unwrap();
        let mut client = Self { watches: WatchesClient::new(channel), token, watch: 0, calls: 0 };
        let create = CreateWatchRequest {
            symbol: symbol(number),
            high: "100".to_owned(),
            ..CreateWatchRequest::default()
        };
        let create = client.request(create);
        let created = client.watches.create_watch(create).await.unwrap().into_inner();
        client.watch = created.watch.unwrap().id;
        client
    }

    fn request<T>(&mut self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.calls += 1;
        let id = format!("{}-{}", self.watch, self.calls).parse().unwrap();
        request.metadata_mut().insert("authorization", self.token.clone());
        request.metadata_mut().insert("request-id", id);
        request
    }

    async fn change(&mut self) {
        let change = ChangeWatchRequest {
            id: self.watch,
            high: Some(format!("{}", 100 + self.calls % 100)),
            ..ChangeWatchRequest::default()
        };
        let change = self.request(change);
        self.watches.change_watch(change).await.unwrap();
    }
}

/// One node over the services.
async fn start(role: &str, kafka: &Kafka, database: &Database) -> Process {
    let folder = support::folder();
    let options = [
        format!("kafka.bootstrap={}", kafka.bootstrap),
        format!("topics.prefix={}", kafka.prefix),
        "topics.partitions=1".to_owned(),
        format!("mysql.url={}", database.url()),
        format!("server.fingerprint_key={}", "5a".repeat(32)),
        format!("graph.roles={role}"),
    ];
    let settings = support::settings_with(folder.path(), &options);
    let (mailer, metrics) = (Arc::new(ConsoleMailer::stdout()), Metrics::new("bench"));
    let process = Process::start(&settings, None, mailer, Feed::None, metrics).await.unwrap();
    process.graph.ready(|_, _| ()).await;
    process
}

/// Gives each client's symbol a price.
async fn price(broker: &KafkaBroker, topic: &str) {
    let (time, price) = (SystemClock.now(), common::price(90.0));
    let records = (0..CLIENTS).map(|number| {
        let symbol = symbol(number).parse().unwrap();
        encode_tick(&Tick { symbol, time, price, currency: None, market: None }, time)
    });
    broker.append(topic, Partition(0), records.collect()).await.unwrap();
}

fn symbol(number: usize) -> String {
    format!("S{number}")
}

fn changes(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let Some(mut kafka) = runtime.block_on(async { Kafka::find() }) else { return };
    let Some(database) = runtime.block_on(Database::create()) else { return };
    runtime.block_on(kafka.warm());
    runtime.block_on(kafka.topic(ALERTS_TOPIC, 1));
    let ticks = runtime.block_on(kafka.topic(TICKS_TOPIC, 1));
    runtime.block_on(price(&kafka.broker, &ticks));
    let evaluator = runtime.block_on(start("evaluator", &kafka, &database));
    let server = runtime.block_on(start("server", &kafka, &database));
    let addr = server.graph.grpc_addr.unwrap();
    let clients = (0..CLIENTS).map(|number| Client::new(addr, number));
    let mut clients = runtime.block_on(join_all(clients));
    let mut group = c.benchmark_group("mysql");
    group.sample_size(10).throughput(Throughput::Elements((CLIENTS * CALLS) as u64));
    group.measurement_time(Duration::from_secs(20));
    group.bench_function("changes", |b| {
        b.iter_custom(|runs| {
            let start = Instant::now();
            for _ in 0..runs {
                runtime.block_on(join_all(clients.iter_mut().map(async |client| {
                    for _ in 0..CALLS {
                        client.change().await;
                    }
                })));
            }
            start.elapsed()
        });
    });
    group.finish();
    runtime.block_on(async {
        assert!(server.stop(Duration::from_secs(10)).await);
        assert!(evaluator.stop(Duration::from_secs(10)).await);
        kafka.clean().await;
    });
}

criterion_group!(benches, changes);
criterion_main!(benches);
