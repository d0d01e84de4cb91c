//! Random histories: the engine and the reference make the same alerts and states.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::policy::{Decision, Moment, Rule};
use super::{Both, changed, symbol, watch};
use crate::model::{
    Condition, Decimal, Policy, Price, Tick, Timestamp, Told, Watch, WatchId, WatchSpec, WatchState,
};
use crate::pipeline::evaluate::Effects;

const SYMBOLS: [&str; 3] = ["A", "BB", "CCC"];
const CURRENCIES: [Option<&str>; 3] = [None, Some("USD"), Some("EUR")];

/// Prices are `base + offset`: near one, where all differ a lot, and far out, where 32-bit
/// bounds can't tell them apart.
const BASES: [i64; 3] = [0, 5_000_000_000, 900_000_000_000_000_000];
const OFFSETS: std::ops::Range<i64> = 1..40;

#[derive(Clone, Debug)]
enum Step {
    Tick { symbol: usize, later_ms: i64, offset: i64, currency: usize },
    Put { id: u64, spec: WatchSpec, paused: bool, seen: bool },
    Remove { id: u64 },
    Reset { symbol: usize },
    Restart { stale: bool },
}

fn policies() -> impl Strategy<Value = Policy> {
    let decimal = |units| Decimal::from_units(units).unwrap();
    prop_oneof![
        3 => Just(Policy::default()),
        2 => (0i64..50).prop_map(move |units| Policy::Crossing { hysteresis: decimal(units) }),
        2 => (1i64..12).prop_map(|units| Policy::Step { step: Price::from_units(units).unwrap() }),
        1 => Just(Policy::Once),
    ]
}

fn specs(base: i64) -> impl Strategy<Value = WatchSpec> {
    let threshold = || prop::option::weighted(0.7, OFFSETS);
    let cooldown_s = prop_oneof![3 => Just(0), 2 => 1u64..20, 1 => Just(WatchSpec::COOLDOWN_S_MAX)];
    (0..SYMBOLS.len(), threshold(), threshold(), policies(), cooldown_s).prop_map(
        move |(at, low, high, policy, cooldown_s)| {
            let price = |offset: i64| Price::from_units(base + offset).unwrap();
            // Thresholds that meet are moved apart.
            let high = high.map(|high| low.map_or(high, |low: i64| high.max(low + 1)));
            WatchSpec::new(symbol(SYMBOLS[at]), low.map(price), high.map(price), policy, cooldown_s)
                .unwrap()
        },
    )
}

fn steps(base: i64) -> impl Strategy<Value = Step> {
    let puts = (0u64..40, specs(base), any::<bool>(), 0..4)
        .prop_map(|(id, spec, seen, paused)| Step::Put { id, spec, paused: paused == 0, seen });
    prop_oneof![
        60 => (0..SYMBOLS.len(), -2_000i64..9_000, OFFSETS, 0usize..20).prop_map(
            |(symbol, later_ms, offset, currency)| Step::Tick {
                symbol,
                later_ms,
                offset,
                // Mostly none: a symbol whose ticks are refused shows little.
                currency: if currency < CURRENCIES.len() { currency } else { 0 },
            }
        ),
        20 => puts,
        3 => (0u64..40).prop_map(|id| Step::Remove { id }),
        1 => (0..SYMBOLS.len()).prop_map(|symbol| Step::Reset { symbol }),
        2 => any::<bool>().prop_map(|stale| Step::Restart { stale }),
    ]
}

/// What a store would know: the watches, the newest states, and each watch before its change.
#[derive(Default)]
struct Store {
    both: Both,
    watches: BTreeMap<WatchId, Watch>,
    older: BTreeMap<WatchId, Watch>,
    states: BTreeMap<WatchId, WatchState>,
    time_ms: i64,
}

impl Store {
    fn commit(&mut self, effects: &Effects) {
        self.states.extend(effects.states.iter().copied());
    }

    fn stored(&self, id: WatchId) -> WatchState {
        self.states.get(&id).copied().unwrap_or_default()
    }

    fn apply(&mut self, watch: &Watch) {
        let effects = self.both.apply(watch, self.stored(watch.id));
        self.commit(&effects);
    }

    /// A change that is not `seen` reaches the evaluator only with the next one.
    fn put(&mut self, id: WatchId, spec: WatchSpec, paused: bool, seen: bool) {
        let next = match self.watches.get(&id) {
            None => Watch { paused, ..watch(id.0, spec) },
            Some(old) => changed(old, spec, paused),
        };
        if let Some(old) = self.watches.insert(id, next) {
            if old.spec.symbol() != spec.symbol() {
                self.both.remove(old.spec.symbol(), id);
            }
            self.older.insert(id, old);
        }
        if seen {
            self.apply(&next);
        }
    }

    fn restart(&mut self, stale: bool) {
        let before = std::mem::take(&mut self.both);
        for name in SYMBOLS.map(symbol) {
            let (last, pinned) = (before.reference.last(name), before.reference.pinned(name));
            let idx = self.both.engine.symbol(name);
            self.both.engine.restore_symbol(idx, last, pinned);
            self.both.reference.restore_symbol(name, last, pinned);
        }
        let current: Vec<Watch> = self.watches.values().copied().collect();
        for watch in current {
            // An evaluator may read an older watch than the one that made the state.
            if let Some(older) = self.older.get(&watch.id).copied()
                && stale
                && older.spec.symbol() == watch.spec.symbol()
            {
                self.apply(&older);
            }
            self.apply(&watch);
        }
    }

    fn step(&mut self, base: i64, step: &Step) {
        match *step {
            Step::Tick { symbol: at, later_ms, offset, currency } => {
                self.time_ms += later_ms;
                let tick = Tick {
                    symbol: symbol(SYMBOLS[at]),
                    time: Timestamp::from_millis(self.time_ms).unwrap(),
                    price: Price::from_units(base + offset).unwrap(),
                    currency: CURRENCIES[currency].map(|code| code.parse().unwrap()),
                    market: None,
                };
                let (_, effects) = self.both.tick(&tick);
                self.commit(&effects);
            }
            Step::Put { id, spec, paused, seen } => self.put(WatchId(id), spec, paused, seen),
            Step::Remove { id } => {
                let id = WatchId(id);
                if let Some(watch) = self.watches.remove(&id) {
                    self.both.remove(watch.spec.symbol(), id);
                    self.older.remove(&id);
                    self.states.remove(&id);
                }
            }
            Step::Reset { symbol: at } => {
                let effects = self.both.reset_symbol(symbol(SYMBOLS[at]));
                self.commit(&effects);
            }
            Step::Restart { stale } => self.restart(stale),
        }
    }

    fn check_states(&self) {
        for (id, watch) in &self.watches {
            self.both.state(watch.spec.symbol(), *id);
        }
    }
}

fn histories() -> impl Strategy<Value = (i64, Vec<Step>)> {
    prop::sample::select(&BASES[..])
        .prop_flat_map(|base| (Just(base), prop::collection::vec(steps(base), 1..120)))
}

/// Many watches of one symbol, added in any order and taken out again.
fn crowds() -> impl Strategy<Value = (i64, Vec<WatchSpec>, Vec<u64>, Vec<Step>)> {
    prop::sample::select(&BASES[..]).prop_flat_map(|base| {
        let order = Just((0..700u64).collect::<Vec<_>>()).prop_shuffle();
        (
            Just(base),
            prop::collection::vec(specs(base), 700),
            prop_oneof![order.clone(), Just((0..700).collect())],
            prop::collection::vec(steps(base), 1..25),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_engine_does_what_the_reference_does((base, steps) in histories()) {
        let mut store = Store::default();
        for step in &steps {
            store.step(base, step);
            store.check_states();
        }
    }

    #[test]
    fn what_is_quiet_is_exactly_where_nothing_happens(
        spec in specs(0),
        above in any::<Option<bool>>(),
        bucket in 0i64..8,
        last_alert in prop::option::of(0i64..5_000),
        price in OFFSETS,
    ) {
        let rule = Rule::from(&watch(1, spec));
        let bucket = if matches!(spec.policy(), Policy::Step { .. }) { bucket } else { 0 };
        let told = above.map_or(Told::Nothing, |above| Told::Told {
            condition: if above { Condition::Above } else { Condition::Below },
            bucket,
        });
        let last_alert = last_alert.and_then(Timestamp::from_millis);
        let state = WatchState { told, last_alert, ..WatchState::default() };
        let time = 5_000;
        let happens = |price, time| rule.decide(&state, Moment { price, time }) != Decision::Nothing;
        let quiet = rule.quiet(&state, Moment { price, time });
        if happens(price, time) {
            prop_assert!(quiet.low > quiet.high);
        } else {
            prop_assert!(quiet.wake > time && (quiet.low..=quiet.high).contains(&price));
            for near in 1..100 {
                let inside = (quiet.low..=quiet.high).contains(&near);
                prop_assert!(!inside || !happens(near, quiet.wake - 1), "{near} {quiet:?}");
            }
            // As wide as can be.
            for next in [quiet.low.saturating_sub(1), quiet.high.saturating_add(1)] {
                let beyond = !(quiet.low..=quiet.high).contains(&next) && next > 0;
                prop_assert!(!beyond || happens(next, time), "{next} {quiet:?}");
            }
        }
    }
}

/// More watches without a cooldown than may be kept by price, and a price that crosses them
/// again and again while some are changed or removed.
fn walks() -> impl Strategy<Value = (i64, Vec<WatchSpec>, Vec<Step>)> {
    prop::sample::select(&BASES[..]).prop_flat_map(|base| {
        let ticks = (0i64..2_000, OFFSETS).prop_map(|(later_ms, offset)| Step::Tick {
            symbol: 0,
            later_ms,
            offset,
            currency: 0,
        });
        let steps = prop_oneof![4 => ticks, 1 => steps(base)];
        (Just(base), prop::collection::vec(specs(base), 140), prop::collection::vec(steps, 40..160))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn a_price_that_goes_back_and_forth_changes_nothing((base, specs, steps) in walks()) {
        let mut store = Store::default();
        for (id, spec) in (0..).zip(&specs) {
            let (low, high) = (spec.low(), spec.high());
            let name = symbol(SYMBOLS[0]);
            let spec = WatchSpec::new(name, low, high, spec.policy(), 0).unwrap();
            store.put(WatchId(id), spec, false, true);
        }
        for step in &steps {
            store.step(base, step);
        }
        store.check_states();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_crowd_of_watches_changes_nothing((base, specs, order, steps) in crowds()) {
        let mut store = Store::default();
        let name = symbol(SYMBOLS[0]);
        let put = |store: &mut Store, id: u64| {
            let spec = &specs[usize::try_from(id).unwrap()];
            let policy = spec.policy();
            let spec =
                WatchSpec::new(name, spec.low(), spec.high(), policy, spec.cooldown_s()).unwrap();
            // Only the first of them are among those that the steps change.
            store.put(WatchId(id + 20), spec, false, true);
        };
        for id in &order {
            put(&mut store, *id);
        }
        for step in &steps {
            store.step(base, step);
        }
        for id in order.iter().rev().filter(|id| **id % 8 != 0) {
            store.step(base, &Step::Remove { id: *id + 20 });
        }
        store.check_states();
        for step in &steps {
            store.step(base, step);
        }
        for id in 0..1_000 {
            store.step(base, &Step::Remove { id });
        }
        prop_assert!(store.both.engine.is_empty());
    }
}
