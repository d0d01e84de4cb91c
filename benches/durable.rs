//! How many ticks a second the embedded adapters carry: through the door into the log, synced,
//! evaluated, and committed in the store, synced. Real files, one partition, quiet ticks.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Market;
use cpu_time::ProcessTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt, stream};
use support::Times;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tripline::adapters::broker::sqlite::SqliteLog;
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::adapters::store::sqlite::SqliteStore;
use tripline::metrics::Metrics;
use tripline::model::{Partition, Tick, Timestamp};
use tripline::node::create_topics;
use tripline::pipeline::Backoff;
use tripline::pipeline::clock::Clock;
use tripline::pipeline::collect::{Door, LogDoor};
use tripline::pipeline::evaluate::EvaluatorPorts;
use tripline::server::store::CommandStore;

const WATCHES: u64 = 20_000;
/// Ticks of a measured run, and of one call at the door.
const TICKS: usize = 200_000;
const BATCH: usize = 1_000;
/// Callers at the door: while the batch of one is synced, others are encoded and gathered.
const CALLERS: usize = 4;

struct Pipe {
    door: Arc<dyn Door>,
    committed: Arc<AtomicU64>,
    accepted: u64,
}

impl Pipe {
    async fn start(folder: &std::path::Path, market: &mut Market) -> Self {
        let settings = support::settings(folder);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (store, log) = (folder.join("store.db"), folder.join("log.db"));
        let store = SqliteStore::open(&store, settings.store.clone(), clock.clone());
        let store = store.await.unwrap();
        let log = SqliteLog::open(&log, settings.broker, clock.clone());
        let broker = Arc::new(log.await.unwrap());
        create_topics(broker.as_ref(), &store, 1).await.unwrap();
        store.import([0; 32], &market.owned_watches(WATCHES)).await.unwrap();
        let metrics = Metrics::new("bench");
        let options = settings.collect.door;
        let door = LogDoor::new(broker.clone(), clock.clone(), metrics.clone(), 1, options);
        let ports = EvaluatorPorts {
            broker,
            store: Arc::new(store),
            clock: clock.clone(),
            backoff: Backoff::new(clock, Arc::new(SeededRandom::new(1))),
            metrics,
            group: settings.topics.group,
            alert_partitions: 1,
            options: settings.evaluate,
        };
        let committed = Arc::new(AtomicU64::new(0));
        let position = committed.clone();
        tokio::spawn(async move {
            ports.run(Partition(0), position, CancellationToken::new(), || {}).await.unwrap();
        });
        Self { door: Arc::new(door), committed, accepted: 0 }
    }

    /// Carries ticks to the store; returns how long until all were accepted, and committed.
    async fn carry(&mut self, batches: Vec<Vec<Tick>>) -> (Duration, Duration) {
        self.accepted += batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        let start = Instant::now();
        let calls = batches.into_iter().map(|batch| self.door.accept(batch, None));
        let mut calls = stream::iter(calls).buffered(CALLERS);
        while let Some(refusals) = calls.next().await {
            assert!(refusals.unwrap().iter().all(Option::is_none));
        }
        let accepted = start.elapsed();
        while self.committed.load(Ordering::Relaxed) < self.accepted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (accepted, start.elapsed())
    }
}

fn durable(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = support::folder();
    let mut market = Market::default();
    let mut pipe = runtime.block_on(Pipe::start(folder.path(), &mut market));
    let ticks = market.quiet_ticks(TICKS);
    // A day back, so that the hottest symbol does not run ahead of the clock.
    let yesterday = SystemClock.now().millis() - 86_400_000;
    let mut times = Times::new(Timestamp::from_millis(yesterday).unwrap(), 100);
    let currency = "USD".parse().unwrap();
    let (mut accepting, mut cpu) = (Vec::new(), Vec::new());
    let mut group = c.benchmark_group("durable");
    group.sample_size(10).throughput(Throughput::Elements(TICKS as u64));
    group.bench_function("committed", |b| {
        let mut run = || {
            let batches = ticks.chunks(BATCH).map(|batch| {
                batch.iter().map(|tick| times.tick(&market, tick, currency)).collect()
            });
            let batches = batches.collect();
            let start = ProcessTime::now();
            let (accepted, committed) = runtime.block_on(pipe.carry(batches));
            cpu.push(start.elapsed());
            accepting.push(accepted);
            committed
        };
        b.iter_custom(|runs| (0..runs).map(|_| run()).sum());
    });
    group.finish();
    let rate = TICKS as f64 / support::percentile(&mut accepting, 0.5).as_secs_f64();
    support::figure("durable/accepted_per_s", rate);
    let cpu = support::percentile(&mut cpu, 0.5).as_secs_f64() / TICKS as f64;
    support::figure("durable/cpu_us", cpu * 1e6);
    runtime.shutdown_background();
}

criterion_group!(benches, durable);
criterion_main!(benches);
