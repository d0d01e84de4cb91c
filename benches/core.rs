//! How fast one core evaluates: quiet ticks, storms of alerts, and changes of watches.
//!
//! What is measured is the thread's time on its core, so that a machine that also does
//! something else gives about the same figures.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{Market, Mix, SYMBOLS};
use cpu_time::ThreadTime;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mimalloc::MiMalloc;
use rand::RngExt;
use tripline::model::{Version, Watch, WatchId, WatchState};
use tripline::pipeline::evaluate::{Effects, Engine, EngineTick};

/// As in the program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Ticks or changes a measured run.
const TICKS: usize = 1_000_000;
const CHANGES: u64 = 100_000;
/// Ticks decoded into one buffer before they are evaluated: they come from a warm cache, as after
/// decoding. A million of them at once would be read from memory first.
const BUFFER: usize = 16_384;
/// Ticks between two commits of what they brought about.
const BATCH: usize = 256;

/// Evaluates ticks; returns the time that it took.
fn run(engine: &mut Engine, ticks: &[EngineTick], effects: &mut Effects) -> Duration {
    let start = ThreadTime::now();
    for batch in ticks.chunks(BATCH) {
        for ticks in batch.chunks(Engine::AHEAD) {
            engine.look_ahead(ticks);
            for tick in ticks {
                engine.tick(*tick, effects);
            }
        }
        black_box(&effects);
        effects.clear();
    }
    start.elapsed()
}

/// Adds or changes watches.
fn apply(engine: &mut Engine, watches: &[Watch], effects: &mut Effects) {
    for part in watches.chunks(Engine::AHEAD) {
        engine.look_ahead_changes(part.iter().map(|watch| (watch.spec.symbol(), watch.id)));
        for watch in part {
            engine.apply(watch, WatchState::default(), effects);
        }
    }
}

/// Evaluates ticks; returns how many told an alert, how many alerts and how many states.
fn count(
    engine: &mut Engine,
    ticks: &[EngineTick],
    effects: &mut Effects,
) -> (usize, usize, usize) {
    let (mut telling, mut alerts, mut states) = (0, 0, 0);
    for tick in ticks {
        engine.tick(*tick, effects);
        telling += usize::from(!effects.alerts.is_empty());
        alerts += effects.alerts.len();
        states += effects.states.len();
        effects.clear();
    }
    (telling, alerts, states)
}

fn measure(
    c: &mut Criterion,
    group: &str,
    label: &str,
    engine: &mut Engine,
    ticks: &mut [EngineTick],
) {
    let mut effects = Effects::default();
    let mut clock_ms = 0;
    common::stamp(ticks, &mut clock_ms);
    let (telling, alerts, states) = count(engine, ticks, &mut effects);
    let share = |count: usize| count as f64 / ticks.len() as f64;
    println!(
        "{group}/{label}: {} watches; a tick: {:.3} tell, {:.3} alerts, {:.3} states",
        engine.len(),
        share(telling),
        share(alerts),
        share(states)
    );
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut group = c.benchmark_group(group);
    group.sample_size(10).throughput(Throughput::Elements(ticks.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(label), |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                for part in ticks.chunks(BUFFER) {
                    buffer.clear();
                    buffer.extend_from_slice(part);
                    common::stamp(&mut buffer, &mut clock_ms);
                    spent += run(engine, &buffer, &mut effects);
                }
            }
            spent
        });
    });
    group.finish();
}

fn quiet(c: &mut Criterion) {
    for (label, watches) in [("1M", 1_000_000), ("10M", 10_000_000)] {
        if !wanted(&format!("quiet/{label}")) {
            continue;
        }
        let mut market = Market::default();
        let mut engine = market.engine();
        market.fill(&mut engine, watches, Mix::Crossing);
        let mut ticks = market.quiet_ticks(TICKS);
        measure(c, "quiet", label, &mut engine, &mut ticks);
    }
}

fn storm(c: &mut Criterion) {
    for (label, mix) in [("1M", Mix::Crossing), ("1M-policies", Mix::Policies)] {
        if !wanted(&format!("storm/{label}")) {
            continue;
        }
        let mut market = Market::default();
        let mut engine = market.engine();
        let watches: Vec<_> = (1..=1_000_000).map(|id| market.watch(id, mix)).collect();
        for watch in &watches {
            engine.apply(watch, WatchState::default(), &mut Effects::default());
        }
        let mut ticks = market.storm_ticks(&watches, TICKS);
        drop(watches);
        measure(c, "storm", label, &mut engine, &mut ticks);
    }
}

fn changes(c: &mut Criterion) {
    if !wanted("changes/add changes/change changes/remove") {
        return;
    }
    const WATCHES: u64 = 10_000_000;
    let mut market = Market::default();
    let mut engine = market.engine();
    let ranks = market.fill(&mut engine, WATCHES, Mix::Crossing);
    let mut effects = Effects::default();
    let mut newest = WATCHES;
    let mut version = Version::FIRST;
    let mut group = c.benchmark_group("changes");
    group.sample_size(10).throughput(Throughput::Elements(CHANGES));
    let names: Vec<_> = (0..SYMBOLS).map(|at| market.name(at)).collect();
    group.bench_function("add", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                let added: Vec<_> =
                    (1..=CHANGES).map(|id| market.watch(newest + id, Mix::Crossing)).collect();
                newest += CHANGES;
                let start = ThreadTime::now();
                apply(&mut engine, &added, &mut effects);
                spent += start.elapsed();
                effects.clear();
                for watch in &added {
                    engine.remove(watch.spec.symbol(), watch.id);
                }
            }
            spent
        });
    });
    group.bench_function("change", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                version = version.next();
                let changed: Vec<_> = (0..CHANGES)
                    .map(|_| {
                        let id = market.rng.random_range(1..=WATCHES);
                        let at = usize::from(ranks[usize::try_from(id - 1).unwrap()]);
                        market.watch_on(at, id, version, Mix::Crossing)
                    })
                    .collect();
                let start = ThreadTime::now();
                apply(&mut engine, &changed, &mut effects);
                spent += start.elapsed();
                effects.clear();
            }
            spent
        });
    });
    group.bench_function("remove", |b| {
        b.iter_custom(|runs| {
            let mut spent = Duration::ZERO;
            for _ in 0..runs {
                version = version.next();
                let chosen: Vec<_> = (0..CHANGES)
                    .map(|_| {
                        let id = market.rng.random_range(1..=WATCHES);
                        (WatchId(id), usize::from(ranks[usize::try_from(id - 1).unwrap()]))
                    })
                    .collect();
                let start = ThreadTime::now();
                for part in chosen.chunks(Engine::AHEAD) {
                    engine.look_ahead_changes(part.iter().map(|(id, at)| (names[*at], *id)));
                    for (id, at) in part {
                        engine.remove(names[*at], *id);
                    }
                }
                spent += start.elapsed();
                for (id, at) in &chosen {
                    let watch = market.watch_on(*at, id.0, version, Mix::Crossing);
                    engine.apply(&watch, WatchState::default(), &mut effects);
                }
                effects.clear();
            }
            spent
        });
    });
    group.finish();
    black_box(engine.len());
}

/// Filling an engine takes longer than measuring it, so what the filter leaves out is not.
fn wanted(names: &str) -> bool {
    std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .all(|filter| names.split(' ').any(|name| name.contains(&filter)))
}

criterion_group!(benches, quiet, storm, changes);
criterion_main!(benches);
