//! How many quiet ticks a second an evaluator takes from a real Kafka: fetched, decoded, evaluated,
//! and committed in a real MySQL or MariaDB. The ticks are in the log before the clock starts.
//!
//! The brokers and the database run beside it on the same cores, so the figure a core is told by
//! the time that this process spent on them.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "../tests/support/mysql_server.rs"]
mod mysql_server;
mod production;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::Market;
use cpu_time::ProcessTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mysql_server::Database;
use production::Kafka;
use support::Times;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tripline::adapters::broker::prefixed::Prefixed;
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::adapters::store::mysql::MysqlStore;
use tripline::metrics::Metrics;
use tripline::model::{Partition, Timestamp};
use tripline::node::create_topics;
use tripline::pipeline::Backoff;
use tripline::pipeline::broker::Broker;
use tripline::pipeline::clock::Clock;
use tripline::pipeline::evaluate::{EvaluateStore, EvaluatorPorts};
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC, encode_tick};
use tripline::server::store::CommandStore;

const WATCHES: u64 = 20_000;
/// Ticks of a measured run, and of one append.
const TICKS: usize = 500_000;
const BATCH: usize = 5_000;
const PARTITION: Partition = Partition(0);

/// A log with nothing that evaluates it yet.
struct World {
    broker: Arc<dyn Broker>,
    ports: EvaluatorPorts,
    market: Market,
    times: Times,
    appended: u64,
}

impl World {
    async fn new(kafka: &Kafka, database: &Database) -> Self {
        let folder = support::folder();
        let settings = support::settings(folder.path());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store =
            MysqlStore::open(database.options(), settings.store.clone(), clock.clone()).await;
        let store = store.unwrap();
        let broker = Prefixed::over(kafka.broker.clone(), &kafka.prefix);
        create_topics(broker.as_ref(), &store, 1).await.unwrap();
        let mut market = Market::default();
        store.import([0; 32], &market.owned_watches(WATCHES)).await.unwrap();
        let ports = EvaluatorPorts {
            broker: broker.clone(),
            store: Arc::new(store) as Arc<dyn EvaluateStore>,
            clock: clock.clone(),
            backoff: Backoff::new(clock, Arc::new(SeededRandom::new(1))),
            metrics: Metrics::new("bench"),
            group: settings.topics.group,
            alert_partitions: 1,
            options: settings.evaluate,
        };
        // A day back, so that the hottest symbol does not run ahead of the clock.
        let yesterday = SystemClock.now().millis() - 86_400_000;
        let times = Times::new(Timestamp::from_millis(yesterday).unwrap(), 100);
        Self { broker, ports, market, times, appended: 0 }
    }

    async fn append(&mut self) {
        let ticks = self.market.quiet_ticks(TICKS);
        let currency = "USD".parse().unwrap();
        for batch in ticks.chunks(BATCH) {
            let records = batch.iter().map(|tick| {
                let tick = self.times.tick(&self.market, tick, currency);
                encode_tick(&tick, tick.time)
            });
            let records = records.collect();
            self.broker.append(TICKS_TOPIC, PARTITION, records).await.unwrap();
        }
        self.appended += TICKS as u64;
    }

    /// Evaluates what was appended; returns how long it took, and on the cores.
    async fn evaluate(&self) -> (Duration, Duration) {
        let (stop, committed) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (ports, position, stopped) = (self.ports.clone(), committed.clone(), stop.clone());
        let (ready, loaded) = tokio::sync::oneshot::channel();
        let run = tokio::spawn(async move {
            let ready = || ready.send(Instant::now()).unwrap();
            ports.run(PARTITION, position, stopped, ready).await
        });
        let start = loaded.await.unwrap();
        let cpu = ProcessTime::now();
        while committed.load(Ordering::Relaxed) < self.appended {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = (start.elapsed(), cpu.elapsed());
        stop.cancel();
        run.await.unwrap().unwrap();
        took
    }
}

fn evaluate(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let Some(mut kafka) = runtime.block_on(async { Kafka::find() }) else { return };
    let Some(database) = runtime.block_on(Database::create()) else { return };
    runtime.block_on(kafka.warm());
    for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
        runtime.block_on(kafka.topic(topic, 1));
    }
    let mut world = runtime.block_on(World::new(&kafka, &database));
    let mut cpu = Vec::new();
    let mut group = c.benchmark_group("kafka_evaluate");
    group.sample_size(10).throughput(Throughput::Elements(TICKS as u64));
    group.bench_function("committed", |b| {
        let mut run = || {
            runtime.block_on(world.append());
            let (took, on_cores) = runtime.block_on(world.evaluate());
            cpu.push(on_cores);
            took
        };
        b.iter_custom(|runs| (0..runs).map(|_| run()).sum());
    });
    group.finish();
    let a_core = TICKS as f64 / support::percentile(&mut cpu, 0.5).as_secs_f64();
    support::figure("kafka_evaluate/per_s_a_core", a_core);
    runtime.block_on(kafka.clean());
}

criterion_group!(benches, evaluate);
criterion_main!(benches);
