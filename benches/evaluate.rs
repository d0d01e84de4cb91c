//! How fast one core takes quiet ticks in as the log's records: protobuf decoded, symbol found,
//! evaluated, the history kept. What is measured is the thread's time on its core.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;
mod support;

use std::hint::black_box;
use std::time::Duration;

use common::{Market, Mix, SYMBOLS};
use cpu_time::ThreadTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::executor::block_on;
use support::Times;
use tripline::adapters::broker::memory::{MemoryBroker, MemoryBrokerOptions};
use tripline::model::{AlertSeq, LastTick, Offset, Partition, Timestamp, WatchState};
use tripline::pipeline::broker::Broker;
use tripline::pipeline::evaluate::{EngineTick, Input, Rules, Step, SymbolState};
use tripline::pipeline::record::{TICKS_TOPIC, decode_tick, encode_tick};
use tripline::pipeline::stage::Evaluate;

const WATCHES: u64 = 1_000_000;
const RECORDS: usize = 200_000;
/// Records that are read from the log at once.
const BATCH: usize = 1_000;
/// As in the default options.
const RECORDS_MAX: u64 = 100_000;
const ALERTS_MAX: usize = 10_000;

/// Ticks as the records of a log in memory.
struct Records {
    market: Market,
    times: Times,
    log: MemoryBroker,
    next: Offset,
}

impl Records {
    fn new(market: Market, times: Times) -> Self {
        let log = MemoryBroker::new(MemoryBrokerOptions::default());
        block_on(log.create_topic(TICKS_TOPIC, 1)).unwrap();
        Self { market, times, log, next: Offset(0) }
    }

    /// Appends ticks and reads them again, into `batch`, as the evaluator's source does.
    fn read(&mut self, ticks: &[EngineTick], batch: &mut Vec<Input>) {
        let currency = "USD".parse().unwrap();
        let records = ticks.iter().map(|tick| {
            let tick = self.times.tick(&self.market, tick, currency);
            encode_tick(&tick, tick.time)
        });
        let records = records.collect();
        block_on(self.log.append(TICKS_TOPIC, Partition(0), records)).unwrap();
        let read = self.log.read(TICKS_TOPIC, Partition(0), self.next, usize::MAX);
        batch.extend(block_on(read).unwrap().into_iter().map(Input::Record));
        self.next = Offset(self.next.0 + ticks.len() as u64);
    }
}

fn quiet(c: &mut Criterion) {
    let mut market = Market::default();
    let start = Timestamp::from_millis(1_700_000_000_000).unwrap();
    let mut rules = Rules::new(Partition(0), Offset(0), AlertSeq(0), RECORDS_MAX, ALERTS_MAX);
    for at in 0..SYMBOLS {
        let last = Some(LastTick { time: start, price: market.first(at) });
        let (symbol, currency) = (market.name(at), "USD".parse().ok());
        rules.restore_symbol(&SymbolState { symbol, last, currency, market: None, prices: 0 });
    }
    for id in 1..=WATCHES {
        let watch = market.watch(id, Mix::Crossing);
        let state = WatchState { version: watch.version, ..WatchState::default() };
        rules.restore_watch(&watch, state);
    }
    let ticks = market.quiet_ticks(RECORDS);
    let times = Times::new(start.plus(Duration::from_secs(1)), 100);
    let mut records = Records::new(market, times);
    let mut batch = Vec::new();

    let mut group = c.benchmark_group("record");
    group.sample_size(20).throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("decoded", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                for ticks in ticks.chunks(BATCH) {
                    batch.clear();
                    records.read(ticks, &mut batch);
                    let start = ThreadTime::now();
                    for input in &batch {
                        if let Input::Record(placed) = input {
                            black_box(decode_tick(&placed.record).unwrap());
                        }
                    }
                    spent += start.elapsed();
                }
            }
            spent
        });
    });
    group.bench_function("evaluated", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                for ticks in ticks.chunks(BATCH) {
                    batch.clear();
                    records.read(ticks, &mut batch);
                    let mut step = Step::default();
                    let start = ThreadTime::now();
                    rules.evaluate(&mut batch, &mut step);
                    spent += start.elapsed();
                    assert!(step.evaluation.alerts.is_empty(), "expected quiet ticks");
                    black_box(step);
                }
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, quiet);
criterion_main!(benches);
