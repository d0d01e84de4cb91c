//! What was done, as those who did it know it: the ticks, and every version of each watch.

use std::collections::BTreeMap;

use tripline::adapters::clock::SeededRandom;
use tripline::model::{Change, Price, Symbol, Tick, Timestamp, Version, Watch, WatchId, WatchSpec};
use tripline::pipeline::clock::Random as _;

/// Every watch that was ever created.
pub(crate) type Story = BTreeMap<WatchId, Lived>;

/// One watch, from its creation on.
#[derive(Clone, Debug)]
pub(crate) struct Lived {
    /// All its versions; the first is 1.
    pub(crate) versions: Vec<Watch>,
    /// Whether it was deleted, by itself or with its user.
    pub(crate) deleted: bool,
    /// Whom its alerts go to.
    pub(crate) email: String,
}

impl Lived {
    pub(crate) fn now(&self) -> Watch {
        *self.versions.last().unwrap()
    }

    pub(crate) fn version(&self, version: Version) -> Option<&Watch> {
        self.versions.iter().find(|watch| watch.version == version)
    }

    /// What an acknowledged change has made of it.
    pub(crate) fn change(&mut self, spec: WatchSpec, paused: bool) {
        let old = self.now();
        let change = old.spec.change_to(&spec);
        if change == Change::None && paused == old.paused {
            return;
        }
        let version = old.version.next();
        let fresh = change == Change::StartsAfresh;
        let cooldown_over = fresh || change == Change::EndsCooldown;
        self.versions.push(Watch {
            version,
            fresh_since: if fresh { version } else { old.fresh_since },
            cooldown_since: if cooldown_over { version } else { old.cooldown_since },
            paused,
            spec,
            ..old
        });
    }
}

/// One of a few symbols.
pub(crate) fn symbol(number: u64) -> Symbol {
    ["AAPL", "IBM", "M&M.NS", "EURUSD=X"][usize::try_from(number % 4).unwrap()].parse().unwrap()
}

/// A price in cents.
pub(crate) fn cents(cents: u64) -> Price {
    Price::from_units(i64::try_from(cents).unwrap() * 1_000_000).unwrap()
}

/// Batches of ticks: mostly within 95 and 105, and now and then far out; a few come late.
pub(crate) fn ticks(seed: u64, batches: u64) -> Vec<Vec<Tick>> {
    let random = SeededRandom::new(seed);
    let roll = |sides: u64| random.next_u64() % sides;
    let start: Timestamp = "2026-01-05T14:30:00Z".parse().unwrap();
    let mut at_ms = start.millis();
    let mut tick = || {
        at_ms += 250 + i64::try_from(roll(2_000)).unwrap();
        let late_ms = if roll(20) == 0 { 10_000 } else { 0 };
        let price = if roll(4) == 0 { 6_000 + roll(8_000) } else { 9_500 + roll(1_000) };
        Tick {
            symbol: symbol(roll(4)),
            time: Timestamp::from_millis(at_ms - late_ms).unwrap(),
            price: cents(price),
            currency: None,
            market: None,
        }
    };
    (0..batches).map(|_| (0..8).map(|_| tick()).collect()).collect()
}
