//! What the benches of stages and of the running graph share: a data folder on the real disk,
//! the settings that a process starts with, ticks, and how a figure is stated.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::path::Path;
use std::time::Duration;

use mimalloc::MiMalloc;
use tempfile::TempDir;
use tripline::config::{self, Flag, Settings, Sources};
use tripline::model::{Currency, Tick, Timestamp};
use tripline::pipeline::evaluate::EngineTick;

use crate::common::{Market, SYMBOLS};

/// As in the program.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// A folder that goes when this is dropped. Not in `/tmp`, which may be memory.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The default settings over a data folder and free ports. `TRIPLINE_BENCH_SET` tries other
/// options: `KEY=VALUE`, separated by commas.
pub(crate) fn settings(folder: &Path) -> Settings {
    settings_with(folder, &[])
}

/// The same with other options, as `KEY=VALUE`.
pub(crate) fn settings_with(folder: &Path, options: &[String]) -> Settings {
    let tried = std::env::var("TRIPLINE_BENCH_SET").unwrap_or_default();
    let options = options.iter().map(String::as_str).chain(tried.split(','));
    let options = options.filter_map(|option| option.split_once('='));
    let own = [
        ("data.dir", folder.to_str().unwrap()),
        ("server.grpc.listen", "127.0.0.1:0"),
        ("server.http.listen", "127.0.0.1:0"),
    ];
    let flag = |(key, value): (&str, &str)| Flag {
        name: key.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let flags = own.into_iter().chain(options).map(flag).collect();
    let sources = Sources { file: None, environment: Vec::new(), flags };
    config::load(&sources).unwrap().settings
}

/// States a figure on a line of its own, in the form that `dev/bench` reads.
pub(crate) fn figure(name: &str, value: f64) {
    println!("figure {name} {value:.3}");
}

/// The middle of the values, and the lowest and highest.
pub(crate) fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// The value that `share` of the values are not above.
pub(crate) fn percentile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let place = (values.len() as f64 * share).ceil() as usize;
    values[place.clamp(1, values.len()) - 1]
}

/// Gives ticks their times as if they came `per_ms` a millisecond, but no two of a symbol in the
/// same one, so that each of them counts.
pub(crate) struct Times {
    next: Vec<i64>,
    start_ms: i64,
    given: i64,
    per_ms: i64,
}

impl Times {
    pub(crate) fn new(start: Timestamp, per_ms: i64) -> Self {
        Self { next: vec![start.millis(); SYMBOLS], start_ms: start.millis(), given: 0, per_ms }
    }

    /// The tick of a symbol's rank and price, at the next instant.
    pub(crate) fn tick(&mut self, market: &Market, tick: &EngineTick, currency: Currency) -> Tick {
        let rank = tick.symbol.0 as usize;
        self.given += 1;
        let millis = self.next[rank].max(self.start_ms + self.given / self.per_ms);
        self.next[rank] = millis + 1;
        Tick {
            symbol: market.name(rank),
            time: Timestamp::from_millis(millis).unwrap(),
            price: tick.price,
            currency: Some(currency),
            market: None,
        }
    }
}
