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
use support::Times;
use tripline::model::{AlertSeq, LastTick, Offset, Partition, Timestamp, WatchState};
use tripline::pipeline::broker::Placed;
use tripline::pipeline::evaluate::{EngineTick, Input, Rules, Step, SymbolState};
use tripline::pipeline::record::{decode_tick, encode_tick};
use tripline::pipeline::stage::Evaluate;

const WATCHES: u64 = 1_000_000;
const RECORDS: usize = 200_000;
/// Records that are read from the log at once.
const BATCH: usize = 1_000;
/// As in the default options.
const RECORDS_MAX: u64 = 20_000;
const ALERTS_MAX: usize = 10_000;

/// Records of one run, in the batches that the source yields.
struct Records {
    market: Market,
    ticks: Vec<EngineTick>,
    times: Times,
    next: Offset,
}

impl Records {
    fn batches(&mut self) -> Vec<Vec<Input>> {
        let currency = "USD".parse().unwrap();
        let mut place = |tick: &EngineTick| {
            let tick = self.times.tick(&self.market, tick, currency);
            let placed = Placed { offset: self.next, record: encode_tick(&tick, tick.time) };
            self.next = self.next.next();
            Input::Record(placed)
        };
        self.ticks.chunks(BATCH).map(|batch| batch.iter().map(&mut place).collect()).collect()
    }
}

fn quiet(c: &mut Criterion) {
    let mut market = Market::default();
    let start = Timestamp::from_millis(1_700_000_000_000).unwrap();
    let mut rules = Rules::new(Partition(0), Offset(0), AlertSeq(0), RECORDS_MAX, ALERTS_MAX);
    for at in 0..SYMBOLS {
        let last = Some(LastTick { time: start, price: market.first(at) });
        let (symbol, currency) = (market.name(at), "USD".parse().ok());
        rules.restore_symbol(&SymbolState { symbol, last, currency, prices: 0 });
    }
    for id in 1..=WATCHES {
        let watch = market.watch(id, Mix::Crossing);
        let state = WatchState { version: watch.version, ..WatchState::default() };
        rules.restore_watch(&watch, state);
    }
    let ticks = market.quiet_ticks(RECORDS);
    let times = Times::new(start.plus(Duration::from_secs(1)), 100);
    let mut records = Records { market, ticks, times, next: Offset(0) };

    let mut group = c.benchmark_group("record");
    group.sample_size(20).throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("decoded", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                let batches = records.batches();
                // These are not evaluated, and those that are have their offsets.
                let start = ThreadTime::now();
                for input in batches.iter().flatten() {
                    if let Input::Record(placed) = input {
                        black_box(decode_tick(&placed.record).unwrap());
                    }
                }
                spent += start.elapsed();
            }
            spent
        });
    });
    group.bench_function("evaluated", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                let mut batches = records.batches();
                let (mut counted, mut alerts) = (0, 0);
                let start = ThreadTime::now();
                for batch in &mut batches {
                    let mut step = Step::default();
                    rules.evaluate(batch, &mut step);
                    counted += step.counted;
                    alerts += step.evaluation.alerts.len();
                    black_box(step);
                }
                spent += start.elapsed();
                assert_eq!(alerts, 0, "expected quiet ticks");
                black_box(counted);
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, quiet);
criterion_main!(benches);
