//! The graph in one process, on a log in memory: what stands still holds nothing else up, and
//! what was full goes on.
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use process::{PATIENCE, database, eventually, number, page};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tripline::adapters::broker::memory::{MemoryBroker, MemoryBrokerOptions};
use tripline::adapters::cache::moka::{MokaCache, MokaOptions};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::config::{self, Settings, Sources};
use tripline::health::Health;
use tripline::metrics::Metrics;
use tripline::model::{
    AlertId, Email, Offset, Partition, Policy, Price, Symbol, Tick, Timestamp, UserId, WatchSpec,
};
use tripline::node::{DataDir, Feed, Graph, GraphOptions, Shared, Stores, create_topics};
use tripline::pipeline::broker::Broker;
use tripline::pipeline::collect::{MarketError, TickStream};
use tripline::pipeline::members::Alone;
use tripline::pipeline::notify::{Mail, MailError, Mailer};
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC, encode_tick};
use tripline::server::secret::SecretKey;
use tripline::server::store::{Command, CommandStore, OperatorStore, QueryStore};

const P0: Partition = Partition(0);

/// Takes every mail, or none.
#[derive(Default)]
struct Mails {
    silent: bool,
    asked: AtomicUsize,
    taken: Mutex<Vec<AlertId>>,
}

#[async_trait]
impl Mailer for Mails {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.silent {
            pending::<()>().await;
        }
        self.taken.lock().unwrap().push(mail.alert.unwrap());
        Ok(())
    }
}

/// Ticks as the test sends them.
struct Sent(mpsc::UnboundedReceiver<Vec<Tick>>);

#[async_trait]
impl TickStream for Sent {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>> {
        self.0.recv().await.map(Ok)
    }
}

/// A feed of these ticks, in batches, and of what is sent later.
fn feed(ticks: &[Tick]) -> (Feed, mpsc::UnboundedSender<Vec<Tick>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    for batch in ticks.chunks(50) {
        sender.send(batch.to_vec()).unwrap();
    }
    (Feed::Stream(Box::new(Sent(receiver))), sender)
}

/// Ticks of which each takes the price one step further.
fn ticks(count: i64) -> Vec<Tick> {
    (1..=count).map(tick).collect()
}

fn tick(number: i64) -> Tick {
    let start: Timestamp = "2026-01-05T14:30:00Z".parse().unwrap();
    Tick {
        symbol: symbol(),
        time: Timestamp::from_millis(start.millis() + number * 1_000).unwrap(),
        price: Price::from_units(number * 100_000_000).unwrap(),
        currency: None,
        market: None,
    }
}

fn symbol() -> Symbol {
    "AAPL".parse().unwrap()
}

/// Tells with the first of [`ticks`], and each time that they reach another multiple of `step`.
fn spec(step: i64) -> WatchSpec {
    let step = Price::from_units(step * 100_000_000).unwrap();
    WatchSpec::new(symbol(), None, Some(Price::MIN), Policy::Step { step }, 0).unwrap()
}

/// A store with the watches of one user, and a log.
struct World {
    dir: TempDir,
    store: SqliteStore,
    broker: Arc<MemoryBroker>,
}

impl World {
    async fn new(broker: MemoryBrokerOptions, watches: &[WatchSpec]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = DataDir::store_file(dir.path());
        let options = SqliteStoreOptions::default();
        let store = SqliteStore::open(&file, options, Arc::new(SystemClock)).await.unwrap();
        let broker = Arc::new(MemoryBroker::new(broker));
        create_topics(&*broker, &store, 1).await.unwrap();
        let ann: Email = "ann@example.com".parse().unwrap();
        let watches: Vec<_> = watches.iter().map(|spec| (ann.clone(), *spec)).collect();
        store.import([1; 32], &watches).await.unwrap();
        Self { dir, store, broker }
    }

    /// The default settings, but for what a test in a process of many needs.
    fn settings(&self) -> Settings {
        let file = self.dir.path().join("tripline.toml");
        std::fs::write(&file, "").unwrap();
        let sources = Sources { file: Some(file), ..Sources::default() };
        let mut settings = config::load(&sources).unwrap().settings;
        settings.server.grpc.listen.set_port(0);
        settings.server.http.listen.set_port(0);
        settings.deliver.in_flight_max = 4;
        settings.deliver.drain_ms = 50;
        settings
    }

    async fn start(&self, settings: &Settings, mailer: Arc<Mails>, feed: Feed) -> Graph {
        let clock = Arc::new(SystemClock);
        let shared = Shared {
            broker: self.broker.clone(),
            membership: Arc::new(Alone { partitions: 1 }),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            metrics: Metrics::new("test"),
            health: Health::new(),
            pages: None,
            owner: settings.graph.roles.to_string(),
        };
        let options = GraphOptions::of(settings);
        let cache = Arc::new(MokaCache::new(MokaOptions::default(), clock));
        let secret = SecretKey::new([7; 32]);
        let stores = Stores::of(self.store.clone());
        let graph = Graph::start(shared, stores, cache, secret, mailer, feed, options).await;
        let graph = graph.unwrap();
        tokio::time::timeout(PATIENCE, graph.ready(|_, _| ())).await.expect("it never got ready");
        graph
    }

    async fn number(&self, sql: &'static str) -> i64 {
        number(&mut database(self.dir.path(), "store.db").await, sql).await
    }

    /// Waits until this many ticks are evaluated and committed.
    async fn evaluated(&self, ticks: i64) {
        let mut store = database(self.dir.path(), "store.db").await;
        let position = "SELECT COALESCE(SUM(position), 0) FROM partitions \
                        WHERE topic = 'to-alert-system'";
        eventually("all ticks are evaluated", async || {
            (number(&mut store, position).await == ticks).then_some(())
        })
        .await;
    }

    async fn pending(&self, deliveries: u64) {
        eventually("every alert is on its way", async || {
            (self.store.backlog().await.unwrap().pending == deliveries).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailer_that_never_answers_slows_nothing_but_mail() {
    let world = World::new(MemoryBrokerOptions::default(), &[spec(1)]).await;
    let settings = world.settings();
    let silent = Arc::new(Mails { silent: true, ..Mails::default() });
    let (feed, more) = feed(&ticks(300));
    let graph = world.start(&settings, silent.clone(), feed).await;
    world.evaluated(300).await;
    world.pending(300).await;
    eventually("as many attempts stand as may", async || {
        (silent.asked.load(Ordering::Relaxed) == 4).then_some(())
    })
    .await;
    // Everything else is as quick as ever, and still takes more.
    more.send(vec![tick(301)]).unwrap();
    world.pending(301).await;
    assert_eq!(world.store.quote(symbol()).await.unwrap().unwrap().price, tick(301).price);
    assert_eq!(page(graph.http_addr, "/readyz").unwrap().0, 200);
    assert_eq!(silent.asked.load(Ordering::Relaxed), 4, "no more than may be in flight");
    assert!(graph.stop(PATIENCE).await, "it stops all the same");
    assert_eq!(world.number("SELECT COUNT(*) FROM deliveries WHERE state = 'pending'").await, 301);

    // Another mailer gets each of them once.
    let (feed, _more) = self::feed(&[]);
    let mails = Arc::new(Mails::default());
    let graph = world.start(&settings, mails.clone(), feed).await;
    world.pending(0).await;
    assert!(graph.stop(PATIENCE).await);
    let taken = mails.taken.lock().unwrap().clone();
    assert_eq!((taken.len(), BTreeSet::from_iter(taken).len()), (301, 301));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_log_refuses_for_now_and_goes_on_when_there_is_room() {
    const TICKS: i64 = 3_000;
    let bytes = MemoryBrokerOptions { retention_bytes: 150_000, batch_bytes_max: 100_000 };
    let world = World::new(bytes, &[spec(100)]).await;
    // The readers are known, and away: nothing that they have not read may be dropped.
    for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
        world.broker.commit("group1", topic, P0, Offset(0)).await.unwrap();
    }
    let mut settings = world.settings();
    settings.graph.roles = "collector".parse().unwrap();
    let (feed, _more) = feed(&ticks(TICKS));
    let collector = world.start(&settings, Arc::default(), feed).await;
    let error = eventually("the log is full", async || {
        let large = encode_tick(&tick(1), Timestamp::default());
        let append = world.broker.append(TICKS_TOPIC, P0, vec![large; 50]).await;
        append.err()
    })
    .await;
    assert!(error.is_transient(), "{error}");
    let held = world.broker.bounds(TICKS_TOPIC, P0).await.unwrap();
    assert!(held.first == Offset(0) && held.end.0 < TICKS.cast_unsigned(), "{held:?}");

    settings.graph.roles = "evaluator,notifier,admin".parse().unwrap();
    let mails = Arc::new(Mails::default());
    let rest = world.start(&settings, mails.clone(), Feed::None).await;
    // The first tick tells, and each that reaches another hundred.
    let told = |number: &i64| *number == 1 || number % 100 == 0;
    let expected: BTreeSet<_> = (1..=TICKS).filter(told).map(|number| tick(number).time).collect();
    eventually("all is told", async || {
        (mails.taken.lock().unwrap().len() == expected.len()).then_some(())
    })
    .await;
    assert!(collector.stop(PATIENCE).await && rest.stop(PATIENCE).await);
    let times: BTreeSet<_> = mails.taken.lock().unwrap().iter().map(|id| id.time).collect();
    assert_eq!(times, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_does_not_wait_for_the_end_of_a_long_log() {
    const TICKS: i64 = 500;
    let world = World::new(MemoryBrokerOptions::default(), &[spec(1)]).await;
    for tick in ticks(TICKS) {
        let record = encode_tick(&tick, Timestamp::default());
        world.broker.append(TICKS_TOPIC, P0, vec![record]).await.unwrap();
    }
    let mut settings = world.settings();
    settings.graph.roles = "evaluator".parse().unwrap();
    // One record a read, each of which tells and is committed: the end is far.
    settings.evaluate.read_bytes_max = 1;
    let graph = world.start(&settings, Arc::default(), Feed::None).await;
    let create = Command::CreateWatch { user: UserId(1), spec: spec(1) };
    world.store.execute(None, &create).await.unwrap();
    world.evaluated(TICKS).await;
    assert!(graph.stop(Duration::from_secs(60)).await);
    let after = "SELECT COALESCE(MAX(after_ms), 0) FROM applied_changes WHERE watch_id = 2";
    let after = world.number(after).await;
    assert!(after < tick(TICKS / 2).time.millis(), "it waited until {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_that_tells_more_than_one_append_holds_is_told_in_parts() {
    const WATCHES: usize = 3_000;
    // Three thousand alerts are twice as large.
    let bytes = MemoryBrokerOptions { batch_bytes_max: 150_000, ..MemoryBrokerOptions::default() };
    let world = World::new(bytes, &[spec(1); WATCHES]).await;
    let mut settings = world.settings();
    (settings.deliver.in_flight_max, settings.deliver.batch_max) = (500, 500);
    let mails = Arc::new(Mails::default());
    let (feed, _more) = feed(&ticks(1));
    let graph = world.start(&settings, mails.clone(), feed).await;
    eventually("everybody is told", async || {
        (mails.taken.lock().unwrap().len() >= WATCHES).then_some(())
    })
    .await;
    assert!(graph.stop(PATIENCE).await);
    let taken = mails.taken.lock().unwrap().clone();
    let watches: BTreeSet<_> = taken.iter().map(|id| id.watch).collect();
    assert_eq!((taken.len(), watches.len()), (WATCHES, WATCHES));
}
