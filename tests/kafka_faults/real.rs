//! Brokers of the real cluster killed while records flow. Everybody who uses the cluster feels
//! it, so it runs with `TRIPLINE_TEST_FULL=1` only, and one test after the other.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions, TopicConfig};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::{Offset, Partition};
use tripline::pipeline::broker::Broker;

use crate::record;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
const PARTITIONS: u32 = 3;

/// The cluster's addresses, if its brokers may be killed.
fn allowed(test: &str) -> Option<Vec<String>> {
    let full = std::env::var("TRIPLINE_TEST_FULL").is_ok_and(|full| full == "1");
    let addresses = std::env::var("TRIPLINE_TEST_KAFKA").ok().filter(|_| full);
    if addresses.is_none() {
        eprintln!("NOT RUN: {test}: it needs TRIPLINE_TEST_FULL=1 and TRIPLINE_TEST_KAFKA");
    }
    Some(addresses?.split(',').map(str::to_owned).collect())
}

/// Does something to the cluster's processes.
async fn services(arguments: &[&str]) {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/services");
    let mut command = Command::new(std::env::var("TRIPLINE_SERVICES").unwrap_or(program.into()));
    command.args(arguments);
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Brings the brokers back, however a test ends.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/services");
        let program = std::env::var("TRIPLINE_SERVICES").unwrap_or(program.into());
        let _ = Command::new(program).args(["up", "kafka"]).output();
    }
}

/// Records that flow into a topic of their own, and out of it.
struct Flow {
    broker: Arc<KafkaBroker>,
    topic: String,
    stop: Arc<AtomicBool>,
    writers: Vec<tokio::task::JoinHandle<Written>>,
}

/// What one partition's writer has seen.
struct Written {
    count: u64,
    slowest: Duration,
}

impl Flow {
    async fn start(bootstrap: Vec<String>, min_insync_replicas: u16) -> Self {
        let topic = TopicConfig { min_insync_replicas, ..TopicConfig::default() };
        let options = KafkaOptions { bootstrap, topic, ..KafkaOptions::default() };
        let random = Arc::new(SeededRandom::from_host());
        let broker = KafkaBroker::new(options, Arc::new(SystemClock), random, Metrics::new("t"));
        let broker = Arc::new(broker.unwrap());
        let topic = format!("faults-{}", uuid::Uuid::new_v4());
        broker.create_topic(&topic, PARTITIONS).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..PARTITIONS).map(|partition| {
            let (broker, topic, stop) = (broker.clone(), topic.clone(), stop.clone());
            tokio::spawn(async move {
                let mut written = Written { count: 0, slowest: Duration::ZERO };
                while !stop.load(Ordering::Relaxed) {
                    let records = vec![record(&written.count.to_string())];
                    let started = Instant::now();
                    broker.append(&topic, Partition(partition), records).await.unwrap();
                    written.slowest = written.slowest.max(started.elapsed());
                    written.count += 1;
                }
                written
            })
        });
        let writers = writers.collect();
        Self { broker, topic, stop, writers }
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
            assert!(started.elapsed() < Duration::from_secs(120), "{what}: {partitions:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends the writers, and checks that everything is there in order, repeated next to itself
    /// if at all.
    async fn check(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        for (partition, writer) in (0..).map(Partition).zip(self.writers) {
            let Written { count, slowest } = writer.await.unwrap();
            let mut found = Vec::new();
            let mut from = Offset(0);
            loop {
                let page = self.broker.read(&self.topic, partition, from, 1 << 20).await.unwrap();
                let Some(last) = page.last() else { break };
                from = last.offset.next();
                found.extend(page.iter().map(|placed| {
                    let text = std::str::from_utf8(&placed.record.value).unwrap();
                    text.parse::<u64>().unwrap()
                }));
            }
            let all = found.len();
            found.dedup();
            assert!(found.iter().copied().eq(0..count), "{what}: partition {partition}");
            eprintln!(
                "{what}: partition {partition}: {count} records, {} repeated, the slowest append \
                 {slowest:?}",
                all - found.len()
            );
        }
        let _ = self.broker.wire().delete_topic(&self.topic).await;
        self.broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_down_changes_nothing() {
    let Some(bootstrap) = allowed("one_broker_down_changes_nothing") else { return };
    let _one = ONE_AT_A_TIME.lock().await;
    let _restored = Restored;
    let flow = Flow::start(bootstrap, 2).await;
    for id in 1..=3 {
        let name = format!("kafka-{id}");
        services(&["kill", &name]).await;
        flow.until("another leader", |_, leader| leader > 0 && leader != id).await;
        services(&["up", "kafka"]).await;
        flow.until("all replicas in sync", |in_sync, _| in_sync == 3).await;
    }
    flow.check("each broker killed once").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_down_change_nothing_with_one_replica_enough() {
    let name = "two_brokers_down_change_nothing_with_one_replica_enough";
    let Some(bootstrap) = allowed(name) else { return };
    let _one = ONE_AT_A_TIME.lock().await;
    let _restored = Restored;
    let flow = Flow::start(bootstrap, 1).await;
    let down = BTreeSet::from([2, 3]);
    for id in &down {
        services(&["kill", &format!("kafka-{id}")]).await;
        flow.until("a leader that is there", |_, leader| leader > 0 && leader != *id).await;
    }
    flow.until("the last broker alone", |in_sync, leader| in_sync == 1 && leader == 1).await;
    services(&["up", "kafka"]).await;
    flow.until("all replicas in sync", |in_sync, _| in_sync == 3).await;
    flow.check("two brokers killed").await;
}
