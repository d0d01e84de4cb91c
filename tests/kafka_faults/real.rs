//! Brokers of the real cluster killed and frozen while records flow. Everybody who uses the cluster feels
//! it, so it runs with `TRIPLINE_TEST_FULL=1` only, and one test after the other.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions, TopicConfig};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::{Offset, Partition};
use tripline::pipeline::broker::{Broker, BrokerError, Placed};

use crate::record;

pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
const PARTITIONS: u32 = 3;
/// How long whatever a failure leads to may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The cluster's addresses, if its brokers may be killed.
pub(crate) fn allowed(test: &str) -> Option<Vec<String>> {
    let full = std::env::var("TRIPLINE_TEST_FULL").is_ok_and(|full| full == "1");
    let addresses = std::env::var("TRIPLINE_TEST_KAFKA").ok().filter(|_| full);
    if addresses.is_none() {
        eprintln!("NOT RUN: {test}: it needs TRIPLINE_TEST_FULL=1 and TRIPLINE_TEST_KAFKA");
    }
    Some(addresses?.split(',').map(str::to_owned).collect())
}

/// Does something to the cluster's processes.
pub(crate) async fn services(arguments: &[&str]) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/services");
    let mut command = Command::new(std::env::var("TRIPLINE_SERVICES").unwrap_or(program.into()));
    command.args(arguments);
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Brings the brokers back, however a test ends.
pub(crate) struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/services");
        let program = std::env::var("TRIPLINE_SERVICES").unwrap_or(program.into());
        let _ = Command::new(program).args(["up", "kafka"]).output();
    }
}

/// A broker of the port over the cluster.
fn open(bootstrap: Vec<String>, min_insync_replicas: u16) -> Arc<KafkaBroker> {
    let topic = TopicConfig { min_insync_replicas, ..TopicConfig::default() };
    let options = KafkaOptions { bootstrap, topic, ..KafkaOptions::default() };
    let random = Arc::new(SeededRandom::from_host());
    let broker = KafkaBroker::new(options, Arc::new(SystemClock), random, Metrics::new("t"));
    Arc::new(broker.unwrap())
}

/// What a writer wrote.
fn number(placed: &Placed) -> u64 {
    std::str::from_utf8(&placed.record.value).unwrap().parse().unwrap()
}

/// Records that flow into a topic of their own, and out of it.
struct Flow {
    broker: Arc<KafkaBroker>,
    topic: String,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Written>>,
    /// What each writer has appended so far.
    counts: Vec<Arc<AtomicU64>>,
}

/// What one partition's writer has seen.
struct Written {
    count: u64,
    slowest: Duration,
}

impl Flow {
    async fn start(bootstrap: Vec<String>, min_insync_replicas: u16) -> Self {
        let broker = open(bootstrap, min_insync_replicas);
        let topic = format!("faults-{}", uuid::Uuid::new_v4());
        broker.create_topic(&topic, PARTITIONS).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Vec<_> = (0..PARTITIONS).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let writers = (0..).zip(&counts).map(|(partition, so_far)| {
            let (broker, topic, stop) = (broker.clone(), topic.clone(), stop.clone());
            let so_far = so_far.clone();
            tokio::spawn(async move {
                let mut written = Written { count: 0, slowest: Duration::ZERO };
                while !stop.load(Ordering::Relaxed) {
                    let records = vec![record(&written.count.to_string())];
                    let started = Instant::now();
                    broker.append(&topic, Partition(partition), records).await.unwrap();
                    written.slowest = written.slowest.max(started.elapsed());
                    written.count += 1;
                    so_far.store(written.count, Ordering::Relaxed);
                }
                written
            })
        });
        let writers = writers.collect();
        Self { broker, topic, stop, writers, counts }
    }

    /// Waits until every writer has appended some more.
    async fn goes_on(&self) {
        for (partition, count) in self.counts.iter().enumerate() {
            let before = count.load(Ordering::Relaxed);
            let started = Instant::now();
            while count.load(Ordering::Relaxed) < before + 10 {
                assert!(started.elapsed() < PATIENCE, "partition {partition} stands still");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Reads a partition while it is written, as `reader`, until it has what was written before
    /// `ends`.
    fn follow(
        &self,
        reader: Arc<KafkaBroker>,
        partition: u32,
        ends: Arc<AtomicU64>,
    ) -> JoinHandle<Vec<u64>> {
        let topic = self.topic.clone();
        tokio::spawn(async move {
            let (mut read, mut from) = (Vec::new(), Offset(0));
            let last = |read: &[u64]| read.last().map_or(0, |last| last + 1);
            while last(&read) < ends.load(Ordering::Relaxed) {
                match reader.read(&topic, Partition(partition), from, 1 << 20).await {
                    Ok(page) => {
                        from = page.last().map_or(from, |last| last.offset.next());
                        read.extend(page.iter().map(number));
                    }
                    Err(error) => assert!(matches!(error, BrokerError::Transient(_)), "{error}"),
                }
                // Nothing more may come.
                let more = reader.wait(&topic, Partition(partition), from);
                let _ = tokio::time::timeout(Duration::from_millis(100), more).await;
            }
            read
        })
    }

    /// Waits until something is so of the topic's partitions.
    async fn until(&self, what: &str, so: impl Fn(usize, i32) -> bool) {
        let started = Instant::now();
        loop {
            let cluster = self.broker.wire();
            let view = cluster.topic(&self.topic).await.ok().flatten();
            let partitions = view.map(|view| view.partitions).unwrap_or_default();
            let all = |p: &tripline::adapters::broker::kafka::wire::PartitionView| {
                so(p.in_sync.len(), p.leader.unwrap_or(-1))
            };
            if !partitions.is_empty() && partitions.iter().all(all) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {partitions:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the writers, and checks that everything is there in order, repeated next to itself
    /// if at all; returns what each wrote.
    async fn check(&mut self, what: &str) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all_written = Vec::new();
        for (partition, writer) in (0..).map(Partition).zip(std::mem::take(&mut self.writers)) {
            let Written { count, slowest } = writer.await.unwrap();
            let mut found = Vec::new();
            let mut from = Offset(0);
            loop {
                let page = self.broker.read(&self.topic, partition, from, 1 << 20).await.unwrap();
                let Some(last) = page.last() else { break };
                from = last.offset.next();
                found.extend(page.iter().map(number));
            }
            all_written.push(Written { count, slowest });
            let all = found.len();
            found.dedup();
            assert!(found.iter().copied().eq(0..count), "{what}: partition {partition}");
            eprintln!(
                "{what}: partition {partition}: {count} records, {} repeated, the slowest append \
                 {slowest:?}",
                all - found.len()
            );
        }
        all_written
    }

    async fn end(self) {
        let _ = self.broker.wire().delete_topic(&self.topic).await;
        self.broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_down_changes_nothing() {
    let Some(bootstrap) = allowed("one_broker_down_changes_nothing") else { return };
    let _one = ONE_AT_A_TIME.lock().await;
    let _restored = Restored;
    let mut flow = Flow::start(bootstrap, 2).await;
    for id in 1..=3 {
        let name = format!("kafka-{id}");
        services(&["kill", &name]).await;
        flow.until("another leader", |_, leader| leader > 0 && leader != id).await;
        services(&["up", "kafka"]).await;
        flow.until("all replicas in sync", |in_sync, _| in_sync == 3).await;
    }
    flow.check("each broker killed once").await;
    flow.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_down_change_nothing_with_one_replica_enough() {
    let name = "two_brokers_down_change_nothing_with_one_replica_enough";
    let Some(bootstrap) = allowed(name) else { return };
    let _one = ONE_AT_A_TIME.lock().await;
    let _restored = Restored;
    let mut flow = Flow::start(bootstrap, 1).await;
    let down = BTreeSet::from([2, 3]);
    for id in &down {
        services(&["kill", &format!("kafka-{id}")]).await;
        flow.until("a leader that is there", |_, leader| leader > 0 && leader != *id).await;
    }
    flow.until("the last broker alone", |in_sync, leader| in_sync == 1 && leader == 1).await;
    services(&["up", "kafka"]).await;
    flow.until("all replicas in sync", |in_sync, _| in_sync == 3).await;
    flow.check("two brokers killed").await;
    flow.end().await;
}

/// What stands still takes connections and answers nothing; when it goes on it takes itself for
/// the leader that it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_changes_nothing() {
    let Some(bootstrap) = allowed("a_frozen_broker_changes_nothing") else { return };
    let _one = ONE_AT_A_TIME.lock().await;
    let _restored = Restored;
    let mut flow = Flow::start(bootstrap.clone(), 2).await;
    let reader = open(bootstrap, 2);
    let ends: Vec<_> = (0..PARTITIONS).map(|_| Arc::new(AtomicU64::new(u64::MAX))).collect();
    let followers = (0..).zip(&ends);
    let followers =
        followers.map(|(number, ends)| flow.follow(reader.clone(), number, ends.clone()));
    let followers: Vec<_> = followers.collect();
    for id in 1..=3 {
        let name = format!("kafka-{id}");
        flow.goes_on().await;
        services(&["pause", &name]).await;
        flow.until("another leader", |_, leader| leader > 0 && leader != id).await;
        flow.goes_on().await;
        services(&["resume", &name]).await;
        flow.until("all replicas in sync", |in_sync, _| in_sync == 3).await;
        flow.goes_on().await;
    }
    let written = flow.check("each broker frozen once").await;
    // The attempt at what stands still, and the way to the new leader, perhaps by asking it again.
    let limit = 2 * Duration::from_millis(KafkaOptions::default().produce_timeout_ms);
    for ((follower, ends), written) in followers.into_iter().zip(ends).zip(written) {
        let Written { count, slowest } = written;
        assert!(slowest < limit, "{slowest:?}");
        ends.store(count, Ordering::Relaxed);
        let mut read = follower.await.unwrap();
        read.dedup();
        let other = read.iter().copied().zip(0..count).find(|(found, expected)| found != expected);
        assert_eq!((other, read.len() as u64), (None, count), "who reads meanwhile sees the same");
    }
    reader.close().await;
    flow.end().await;
}
