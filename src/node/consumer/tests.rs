//! Several members in one process, on paused time: joining, leaving, freezing, failing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::adapters::broker::memory::{MemoryBroker, MemoryBrokerOptions};
use crate::adapters::clock::SeededRandom;
use crate::adapters::members::memory::MemoryMembers;
use crate::model::Timestamp;
use crate::pipeline::members::View;
use crate::pipeline::store::StoreError;

const TOPIC: &str = "to-alert-system";

/// The wall clock of a test whose time is tokio's.
struct Paused(Instant);

#[async_trait]
impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::default().plus(self.0.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A member's way to the others, which can be cut.
struct Line {
    members: Arc<MemoryMembers>,
    cut: AtomicBool,
    beats: AtomicUsize,
}

impl Line {
    async fn pass(&self) {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Membership for Line {
    async fn heartbeat(&self, topic: &str, who: &str, lease_ms: u64) -> Result<View, StoreError> {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.pass().await;
        self.members.heartbeat(topic, who, lease_ms).await
    }

    async fn claim(
        &self,
        topic: &str,
        what: &[Partition],
        who: &str,
    ) -> Result<Vec<Partition>, StoreError> {
        self.pass().await;
        self.members.claim(topic, what, who).await
    }

    async fn release(&self, topic: &str, what: &[Partition], who: &str) -> Result<(), StoreError> {
        self.pass().await;
        self.members.release(topic, what, who).await
    }

    async fn leave(&self, topic: &str, who: &str) -> Result<(), StoreError> {
        self.pass().await;
        self.members.leave(topic, who).await
    }
}

/// What pipelines do: who works on which partition.
#[derive(Default)]
struct Work {
    at: Mutex<BTreeMap<(Partition, String), usize>>,
    starts: AtomicUsize,
    /// How the next pipelines end, before those that run until they are stopped.
    ends: Mutex<Vec<StageError>>,
}

impl Work {
    fn of(&self, member: &str) -> BTreeSet<Partition> {
        let at = self.at.lock().unwrap();
        at.keys().filter(|(_, who)| who == member).map(|(p, _)| *p).collect()
    }

    /// How many work on each partition.
    fn workers(&self) -> BTreeMap<Partition, usize> {
        let at = self.at.lock().unwrap();
        let mut workers = BTreeMap::new();
        at.iter().for_each(|((p, _), count)| *workers.entry(*p).or_default() += count);
        workers
    }
}

/// Works on a partition for as long as it lives.
struct At {
    work: Arc<Work>,
    place: (Partition, String),
}

impl At {
    fn new(work: &Arc<Work>, partition: Partition, member: &str) -> Self {
        let place = (partition, member.to_owned());
        *work.at.lock().unwrap().entry(place.clone()).or_default() += 1;
        work.starts.fetch_add(1, Ordering::Relaxed);
        Self { work: work.clone(), place }
    }
}

impl Drop for At {
    fn drop(&mut self) {
        self.work.at.lock().unwrap().remove(&self.place);
    }
}

struct Member {
    line: Arc<Line>,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Member {
    /// Partitions in all, and those that it works on, as its metrics have it.
    fn stated(&self) -> [i64; 2] {
        let label = Topic { topic: TOPIC.to_owned() };
        [&self.metrics.partitions, &self.metrics.partitions_owned]
            .map(|family| family.get_or_create(&label).get())
    }
}

struct World {
    members: Arc<MemoryMembers>,
    work: Arc<Work>,
    partitions: u32,
    broker: Arc<MemoryBroker>,
    clock: Arc<Paused>,
}

impl World {
    async fn new(partitions: u32) -> Self {
        let clock = Arc::new(Paused(Instant::now()));
        let broker = Arc::new(MemoryBroker::new(MemoryBrokerOptions::default()));
        broker.create_topic(TOPIC, partitions).await.unwrap();
        let members = Arc::new(MemoryMembers::new(clock.clone()));
        Self { members, work: Arc::default(), partitions, broker, clock }
    }

    fn join(&self, name: &str) -> Member {
        let line = Arc::new(Line {
            members: self.members.clone(),
            cut: AtomicBool::new(false),
            beats: AtomicUsize::new(0),
        });
        let (health, stop) = (Health::new(), CancellationToken::new());
        let share = Share {
            membership: line.clone(),
            member: name.to_owned(),
            options: MemberOptions::default(),
            partitions: self.partitions,
            health: health.clone(),
            stop: stop.clone(),
        };
        let backoff = Backoff::new(self.clock.clone(), Arc::new(SeededRandom::new(1)));
        let (broker, clock) = (self.broker.clone(), self.clock.clone());
        let metrics = Metrics::new("test");
        let seen = metrics.clone();
        let consumer = Consumer::new("evaluator", TOPIC, share, broker, clock, backoff, seen);
        let (work, name) = (self.work.clone(), name.to_owned());
        let task = tokio::spawn(consumer.run(move |given: Given| {
            let (work, name) = (work.clone(), name.clone());
            async move {
                let _at = At::new(&work, given.partition, &name);
                let end = work.ends.lock().unwrap().pop();
                if let Some(error) = end {
                    return Err(error);
                }
                given.health.ready();
                given.stop.cancelled().await;
                // What has begun is carried through.
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok(())
            }
        }));
        Member { line, health, metrics, stop, task }
    }

    /// Lets time pass, in steps; nobody may work beside another on a partition meanwhile.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds * 10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let workers = self.work.workers();
            assert!(workers.values().all(|count| *count == 1), "{workers:?}");
        }
    }

    fn shares(&self, names: &[&str]) -> Vec<usize> {
        assert_eq!(self.work.workers().len(), self.partitions as usize, "somebody works on each");
        names.iter().map(|name| self.work.of(name).len()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn members_come_and_go_and_only_what_must_move_moves() {
    let world = World::new(6).await;
    let mut a = world.join("a");
    world.pass(2).await;
    assert_eq!(world.shares(&["a"]), [6]);
    assert_eq!(a.stated(), [6, 6]);
    let b = world.join("b");
    world.pass(5).await;
    assert_eq!(world.shares(&["a", "b"]), [3, 3]);
    assert_eq!([a.stated(), b.stated()], [[6, 3]; 2]);
    let c = world.join("c");
    world.pass(5).await;
    assert_eq!(world.shares(&["a", "b", "c"]), [2, 2, 2]);
    assert_eq!(world.work.starts.load(Ordering::Relaxed), 6 + 3 + 2);
    // One leaves: its partitions go on at once, and nothing else moves.
    let (of_b, of_c) = (world.work.of("b"), world.work.of("c"));
    a.stop.cancel();
    (&mut a.task).await.unwrap();
    world.pass(2).await;
    assert_eq!(world.shares(&["a", "b", "c"]), [0, 3, 3]);
    assert_eq!([a.stated(), b.stated(), c.stated()], [[6, 0], [6, 3], [6, 3]]);
    assert!(world.work.of("b").is_superset(&of_b) && world.work.of("c").is_superset(&of_c));
    // One dies without a word.
    b.task.abort();
    world.pass(8).await;
    assert_eq!(world.shares(&["b", "c"]), [0, 6]);
    drop(c);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_partitions_is_ready_and_nothing_flaps() {
    let world = World::new(2).await;
    let names = ["a", "b", "c"];
    let mut members = Vec::new();
    for name in names {
        let member = world.join(name);
        world.pass(4).await;
        assert!(member.health.is_ready(), "{name}: {:?}", member.health.not_ready());
        members.push(member);
    }
    assert_eq!(world.shares(&names), [1, 1, 0]);
    let gone = members.remove(0);
    gone.stop.cancel();
    for _ in 0..100 {
        world.clock.sleep(Duration::from_millis(50)).await;
        assert!(members.iter().all(|member| member.health.is_ready()));
    }
    assert_eq!(world.shares(&names), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_stops_and_comes_back() {
    let world = World::new(4).await;
    let (a, b) = (world.join("a"), world.join("b"));
    world.pass(6).await;
    assert_eq!(world.shares(&["a", "b"]), [2, 2]);
    a.line.cut.store(true, Ordering::Relaxed);
    // It may still work while the other begins; the epoch is what keeps it from committing.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(world.shares(&["a", "b"]), [0, 4]);
    assert_eq!([a.stated(), b.stated()], [[4, 0], [4, 4]]);
    assert!(!a.health.is_ready());
    assert!(a.line.beats.load(Ordering::Relaxed) < 20, "it does not spin");
    a.line.cut.store(false, Ordering::Relaxed);
    world.pass(8).await;
    assert_eq!(world.shares(&["a", "b"]), [2, 2]);
    assert!(a.health.is_ready() && b.health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_overtaken_starts_again_with_a_heartbeat_and_a_failed_one_does_not() {
    let world = World::new(1).await;
    let overtaken = StageError::Overtaken("another owner".to_owned());
    *world.work.ends.lock().unwrap() = vec![overtaken; 3];
    let a = world.join("a");
    world.pass(5).await;
    assert_eq!(world.work.starts.load(Ordering::Relaxed), 4);
    assert!(a.health.is_ready(), "{:?}", a.health.not_ready());
    a.stop.cancel();
    a.task.await.unwrap();

    let failed = StageError::Permanent("the position does not fit the log".to_owned());
    *world.work.ends.lock().unwrap() = vec![failed];
    let b = world.join("b");
    world.pass(5).await;
    assert_eq!(world.work.starts.load(Ordering::Relaxed), 5);
    let reason = &b.health.not_ready()["evaluator of partition 0"];
    assert_eq!(reason, "the position does not fit the log");
    assert_eq!(b.stated(), [1, 0]);
}
