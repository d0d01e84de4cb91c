//! Failures of Kafka, one by one: nothing is lost, what is there twice is next to itself, and
//! order holds within a partition. On brokers within the process that fail as they are told.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod admin;
mod answers;
#[path = "../support/authority.rs"]
mod authority;
mod cluster;
#[path = "../support/mysql_server.rs"]
mod mysql_server;
#[path = "../support/process.rs"]
mod process;
mod real;
mod security;
#[path = "../support/services.rs"]
mod services;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::{Fault, FaultCluster};
use kafka_protocol::ResponseError;
use tripline::adapters::broker::kafka::{Compression, KafkaBroker, KafkaOptions};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::{Metrics, Topic};
use tripline::model::{Offset, Partition};
use tripline::pipeline::broker::{Bounds, Broker, BrokerError, Record};
use tripline::pipeline::clock::Clock;

const TOPIC: &str = "ticks";
const P0: Partition = Partition(0);

/// A broker of the port over brokers within the process, with one topic of one partition that
/// broker 1 leads. A second is a tenth of one.
struct World {
    cluster: FaultCluster,
    broker: Arc<KafkaBroker>,
    metrics: Metrics,
}

impl World {
    async fn new() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(KafkaOptions) -> KafkaOptions) -> Self {
        let cluster = FaultCluster::start(3).await;
        let options = change(KafkaOptions {
            bootstrap: (1..=3).map(|id| cluster.address(id)).collect(),
            retry_backoff_ms: 10,
            retry_backoff_ms_max: 100,
            delivery_timeout_ms: 6_000,
            produce_timeout_ms: 3_500,
            request_timeout_ms: 1_000,
            connect_timeout_ms: 1_000,
            commit_interval_ms: 10,
            ..KafkaOptions::default()
        });
        let metrics = Metrics::new("test");
        let random = Arc::new(SeededRandom::new(1));
        let broker = KafkaBroker::new(options, Arc::new(SystemClock), random, metrics.clone());
        let broker = Arc::new(broker.unwrap());
        assert_eq!(broker.create_topic(TOPIC, 1).await.unwrap().partitions, 1);
        Self { cluster, broker, metrics }
    }

    fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.cluster.state().faults.extend(faults);
    }

    async fn append(&self, text: &str) -> Result<Offset, BrokerError> {
        self.broker.append(TOPIC, P0, vec![record(text)]).await
    }

    /// Begins to append while the test goes on.
    fn begin(&self, text: &str) -> tokio::task::JoinHandle<Result<Offset, BrokerError>> {
        let (broker, records) = (self.broker.clone(), vec![record(text)]);
        tokio::spawn(async move { broker.append(TOPIC, P0, records).await })
    }

    /// All that is in the log.
    async fn log(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let mut from = self.broker.bounds(TOPIC, P0).await.unwrap().first;
        loop {
            let page = self.broker.read(TOPIC, P0, from, 1 << 20).await.unwrap();
            let Some(last) = page.last() else { return texts };
            from = last.offset.next();
            texts.extend(page.iter().map(|p| String::from_utf8(p.record.value.to_vec()).unwrap()));
        }
    }

    fn retries(&self) -> u64 {
        let label = Topic { topic: TOPIC.to_owned() };
        self.metrics.kafka_produce_retries.get_or_create(&label).get()
    }
}

/// A record of now: Kafka drops what is older than its retention.
fn record(text: &str) -> Record {
    Record {
        key: Some(Bytes::from_static(b"AAPL")),
        value: Bytes::from(text.to_owned()),
        headers: Default::default(),
        time: SystemClock.now(),
    }
}

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waited = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect(what);
}

fn later(seconds_tenth: u64) -> Fault {
    Fault::Late(Duration::from_millis(100 * seconds_tenth))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_after_the_append_repeats_next_to_itself() {
    let world = World::new().await;
    world.append("a").await.unwrap();
    world.fail([Fault::LostAfterAppend]);
    world.append("b").await.unwrap();
    assert_eq!(world.append("c").await, Ok(Offset(3)));
    assert_eq!(world.log().await, ["a", "b", "b", "c"]);
    assert_eq!(world.retries(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_moved_is_found_by_producer_and_readers() {
    let world = World::new().await;
    world.append("a").await.unwrap();
    let waiting = {
        let broker = world.broker.clone();
        tokio::spawn(async move { broker.wait(TOPIC, P0, Offset(1)).await })
    };
    until("a fetch that waits", || !world.cluster.state().fetching.is_empty()).await;
    world.cluster.change(|state| state.topics.get_mut(TOPIC).unwrap()[0].leader = 2);
    assert_eq!(world.append("b").await, Ok(Offset(1)));
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(world.log().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_replaced_by_a_new_broker_is_found() {
    let world = World::new().await;
    world.append("a").await.unwrap();
    world.cluster.down(1).await;
    let appending = world.begin("b");
    until("a retry", || world.retries() > 0).await;
    world.cluster.add(4).await;
    world.cluster.change(|state| {
        state.nodes.remove(&1);
        state.topics.get_mut(TOPIC).unwrap()[0].leader = 4;
    });
    assert_eq!(appending.await.unwrap(), Ok(Offset(1)));
    assert_eq!(world.log().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_sent_again_and_is_there_once() {
    let world = World::new().await;
    for error in [
        ResponseError::NotEnoughReplicas,
        ResponseError::KafkaStorageError,
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::LeaderNotAvailable,
    ] {
        world.fail([Fault::Refused(error)]);
        world.append(&format!("{error}")).await.unwrap();
    }
    let expected = [
        "NotEnoughReplicas",
        "KafkaStorageError",
        "CoordinatorLoadInProgress",
        "LeaderNotAvailable",
    ];
    assert_eq!(world.log().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_last_retry_the_caller_knows() {
    let world = World::new().await;
    world.fail([Fault::Refused(ResponseError::NotEnoughReplicas); 4]);
    let error = world.append("a").await.unwrap_err();
    assert!(matches!(error, BrokerError::Transient(_)), "{error}");
    assert_eq!(world.retries(), 3);
    assert_eq!(world.append("b").await, Ok(Offset(0)));
    assert_eq!(world.log().await, ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_and_refused_repeats_next_to_itself() {
    let world = World::new().await;
    for error in [ResponseError::NotEnoughReplicasAfterAppend, ResponseError::RequestTimedOut] {
        world.fail([Fault::RefusedAfterAppend(error)]);
        world.append(&format!("{error}")).await.unwrap();
    }
    let [a, b] = ["NotEnoughReplicasAfterAppend", "RequestTimedOut"];
    assert_eq!(world.log().await, [a, a, b, b]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_metadata_is_asked_for_again() {
    let world = World::new().await;
    world.cluster.state().stale = 3;
    assert_eq!(world.append("a").await, Ok(Offset(0)));
    assert_eq!(world.log().await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_is_waited_for_while_the_next_batch_forms() {
    let world = World::new().await;
    world.append("a").await.unwrap();
    world.fail([later(5)]);
    let slow = world.begin("b");
    until("the slow request", || world.cluster.state().produced.len() == 2).await;
    let others = futures::future::join_all(["c", "d", "e"].map(|text| world.append(text)));
    let others: Vec<_> = others.await.into_iter().map(Result::unwrap).collect();
    assert_eq!(slow.await.unwrap(), Ok(Offset(1)));
    assert_eq!(others, [Offset(2), Offset(3), Offset(4)]);
    assert_eq!(world.cluster.state().produced, [1, 1, 3], "one batch of what came meanwhile");
    assert_eq!(world.log().await, ["a", "b", "c", "d", "e"]);
    assert_eq!(world.retries(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_repeats_before_the_next_batch() {
    let change = |options| KafkaOptions { produce_timeout_ms: 300, ..options };
    let world = World::with(change).await;
    world.fail([later(1_000)]);
    let slow = world.begin("a");
    until("the slow request", || world.cluster.state().produced.len() == 1).await;
    assert_eq!(world.append("b").await, Ok(Offset(2)));
    assert_eq!(slow.await.unwrap(), Ok(Offset(1)));
    assert_eq!(world.log().await, ["a", "a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_before_its_turn_appends_nothing() {
    let world = World::new().await;
    world.fail([later(3)]);
    let slow = world.begin("a");
    until("the slow request", || world.cluster.state().produced.len() == 1).await;
    let gone = world.begin("b");
    let stays = world.begin("c");
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(slow.await.unwrap(), Ok(Offset(0)));
    stays.await.unwrap().unwrap();
    assert_eq!(world.log().await, ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_brokers_may_be_gone_for_a_while() {
    let world = World::new().await;
    world.append("a").await.unwrap();
    let waiting = {
        let broker = world.broker.clone();
        tokio::spawn(async move { broker.wait(TOPIC, P0, Offset(1)).await })
    };
    until("a fetch that waits", || !world.cluster.state().fetching.is_empty()).await;
    for id in 1..=3 {
        world.cluster.down(id).await;
    }
    let appending = world.begin("b");
    until("some retries", || world.retries() > 5).await;
    for id in 1..=3 {
        world.cluster.up(id).await;
    }
    assert_eq!(appending.await.unwrap(), Ok(Offset(1)));
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(world.log().await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_gone_for_too_long_are_told_and_come_back() {
    let change = |options| KafkaOptions { delivery_timeout_ms: 500, ..options };
    let world = World::with(change).await;
    for id in 1..=3 {
        world.cluster.down(id).await;
    }
    let error = world.append("a").await.unwrap_err();
    assert!(matches!(error, BrokerError::Transient(_)), "{error}");
    let error = world.broker.bounds(TOPIC, P0).await.unwrap_err();
    assert!(matches!(error, BrokerError::Transient(_)), "{error}");
    let error = world.broker.read(TOPIC, P0, Offset(0), 100).await.unwrap_err();
    assert!(matches!(error, BrokerError::Transient(_)), "{error}");
    for id in 1..=3 {
        world.cluster.up(id).await;
    }
    // A broker that is back is found at the next attempt, or at the one after.
    while world.append("b").await.is_err() {}
    assert!(world.log().await.iter().all(|text| text == "b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_too_large_is_refused_alone() {
    let compression = Compression::None;
    let world = World::with(|options| KafkaOptions { compression, ..options }).await;
    world.cluster.state().batch_bytes_max = 400;
    let large = "x".repeat(2_000);
    world.fail([later(3)]);
    let slow = world.begin("a");
    until("the slow request", || world.cluster.state().produced.len() == 1).await;
    let others = ["b", &large, "c"].map(|text| world.append(text));
    let others = futures::future::join_all(others).await;
    assert_eq!(slow.await.unwrap(), Ok(Offset(0)));
    let size = record(&large).size();
    let refused = Err(BrokerError::TooLarge { size, limit: 400 });
    assert_eq!(others, [Ok(Offset(1)), refused, Ok(Offset(2))]);
    assert_eq!(world.log().await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_out_of_range() {
    let world = World::new().await;
    for text in ["a", "b", "c"] {
        world.append(text).await.unwrap();
    }
    world.cluster.change(|state| {
        let log = &mut state.topics.get_mut(TOPIC).unwrap()[0];
        log.first = 2;
        log.batches.drain(..2);
    });
    let bounds = Bounds { first: Offset(2), end: Offset(3) };
    let read = world.broker.read(TOPIC, P0, Offset(1), 100).await;
    assert_eq!(read, Err(BrokerError::OutOfRange { offset: Offset(1), bounds }));
    assert_eq!(world.log().await, ["c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_waits_beyond_a_shortened_log_is_told() {
    let world = World::with(|options| KafkaOptions { fetch_wait_ms: 50, ..options }).await;
    for text in ["a", "b", "c"] {
        world.append(text).await.unwrap();
    }
    let waiting = {
        let broker = world.broker.clone();
        tokio::spawn(async move { broker.wait(TOPIC, P0, Offset(3)).await })
    };
    until("a fetch that waits", || !world.cluster.state().fetching.is_empty()).await;
    world.cluster.change(|state| {
        let log = &mut state.topics.get_mut(TOPIC).unwrap()[0];
        log.end = 1;
        log.batches.truncate(1);
    });
    let bounds = Bounds { first: Offset(0), end: Offset(1) };
    let told = Err(BrokerError::OutOfRange { offset: Offset(3), bounds });
    assert_eq!(waiting.await.unwrap(), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_without_records_are_passed_over() {
    let world = World::new().await;
    world.append("a").await.unwrap();
    // As compaction leaves it.
    world.cluster.change(|state| state.topics.get_mut(TOPIC).unwrap()[0].end += 5);
    assert_eq!(world.append("b").await, Ok(Offset(6)));
    assert_eq!(world.log().await, ["a", "b"]);
    let read = world.broker.read(TOPIC, P0, Offset(3), 100).await.unwrap();
    assert_eq!(read[0].offset, Offset(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_committed_late_and_the_last_one_counts() {
    let world = World::new().await;
    let refusals = [ResponseError::NotCoordinator, ResponseError::CoordinatorLoadInProgress];
    world.cluster.state().commit_faults.extend(refusals);
    let committed = |world: &World| {
        let key = ("group1".to_owned(), TOPIC.to_owned(), 0);
        world.cluster.state().committed.get(&key).copied()
    };
    for offset in 1..=50 {
        world.broker.commit("group1", TOPIC, P0, Offset(offset)).await.unwrap();
    }
    until("the offset", || committed(&world) == Some(50)).await;
    assert!(world.cluster.state().commit_faults.is_empty());
    // At the end what is noted is committed at once.
    world.broker.commit("group1", TOPIC, P0, Offset(51)).await.unwrap();
    world.broker.close().await;
    assert_eq!(committed(&world), Some(51));
}
