//! The contract once more, to be read: every watch is looked at for every tick, and the
//! rules stand as they are worded. Slow, and obvious; tests and benches measure the engine
//! against it, so it shares nothing with the engine but the words of the domain.

use std::collections::BTreeMap;

use super::{Effects, Outcome};
use crate::model::{
    Alert, AlertId, Condition, Currency, LastTick, Policy, Price, Symbol, Tick, Told, Watch,
    WatchId, WatchState,
};

/// What is known of one symbol.
#[derive(Clone, Debug, Default)]
struct Listing {
    last: Option<LastTick>,
    pinned: Option<Currency>,
    watches: BTreeMap<WatchId, (Watch, WatchState)>,
}

/// Evaluates ticks against watches, slowly; every method does what its namesake of
/// [`Engine`](super::Engine) does.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    symbols: BTreeMap<Symbol, Listing>,
}

impl Reference {
    /// A reference without watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// A symbol's last tick that counted.
    pub fn last(&self, symbol: Symbol) -> Option<LastTick> {
        self.symbols.get(&symbol)?.last
    }

    /// A symbol's currency.
    pub fn pinned(&self, symbol: Symbol) -> Option<Currency> {
        self.symbols.get(&symbol)?.pinned
    }

    /// Sets what was known of a symbol before a restart.
    pub fn restore_symbol(
        &mut self,
        symbol: Symbol,
        last: Option<LastTick>,
        pinned: Option<Currency>,
    ) {
        let listing = self.symbols.entry(symbol).or_default();
        listing.last = last;
        listing.pinned = pinned;
    }

    /// Adds or changes a watch.
    pub fn apply(&mut self, watch: &Watch, stored: WatchState, out: &mut Effects) {
        let listing = self.symbols.entry(watch.spec.symbol()).or_default();
        let held = listing.watches.get(&watch.id).copied();
        let before = match held {
            Some((held, _)) if held.version >= watch.version => return,
            Some((_, state)) => state,
            None => stored,
        };
        let mut state = before.carried_to(watch);
        if held.is_some() || before.version < watch.version {
            if let Some(last) = listing.last {
                evaluate(watch, &mut state, last, out);
            }
            if state != before {
                out.states.push((watch.id, state));
            }
        }
        listing.watches.insert(watch.id, (*watch, state));
    }

    /// Removes a watch; returns whether it was held.
    pub fn remove(&mut self, symbol: Symbol, watch: WatchId) -> bool {
        self.symbols
            .get_mut(&symbol)
            .is_some_and(|listing| listing.watches.remove(&watch).is_some())
    }

    /// An operator's reset of a symbol.
    pub fn reset_symbol(&mut self, symbol: Symbol, out: &mut Effects) {
        let Some(listing) = self.symbols.get_mut(&symbol) else { return };
        listing.last = None;
        listing.pinned = None;
        for (id, (_, state)) in &mut listing.watches {
            if state.last_alert.is_some() {
                state.last_alert = None;
                out.states.push((*id, *state));
            }
        }
    }

    /// Evaluates a tick.
    pub fn tick(&mut self, tick: &Tick, out: &mut Effects) -> Outcome {
        let listing = self.symbols.entry(tick.symbol).or_default();
        if listing.last.is_some_and(|last| tick.time <= last.time) {
            return Outcome::Late;
        }
        if let (Some(stated), Some(pinned)) = (tick.currency, listing.pinned)
            && stated != pinned
        {
            return Outcome::Currency;
        }
        listing.pinned = listing.pinned.or(tick.currency);
        let last = LastTick { time: tick.time, price: tick.price };
        listing.last = Some(last);
        for (id, (watch, state)) in &mut listing.watches {
            let before = *state;
            evaluate(watch, state, last, out);
            if *state != before {
                out.states.push((*id, *state));
            }
        }
        Outcome::Counted
    }

    /// A watch's state.
    pub fn state(&self, symbol: Symbol, watch: WatchId) -> Option<WatchState> {
        self.symbols.get(&symbol)?.watches.get(&watch).map(|(_, state)| *state)
    }

    /// The number of watches.
    pub fn len(&self) -> usize {
        self.symbols.values().map(|listing| listing.watches.len()).sum()
    }

    /// Whether there are no watches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The rules of one watch for one tick.
fn evaluate(watch: &Watch, state: &mut WatchState, tick: LastTick, out: &mut Effects) {
    if watch.paused {
        return;
    }
    match condition_of(watch, tick.price) {
        Some((condition, threshold)) => {
            let told = Told::Told { condition, bucket: bucket_of(watch, tick.price) };
            if !warrants(watch, state.told, told) {
                return;
            }
            if let Some(last_alert) = state.last_alert {
                let since_ms = i128::from(tick.time.millis()) - i128::from(last_alert.millis());
                if since_ms < i128::from(watch.spec.cooldown_s()) * 1_000 {
                    return;
                }
            }
            state.told = told;
            state.last_alert = Some(tick.time);
            out.alerts.push(Alert {
                id: AlertId { watch: watch.id, version: watch.version, time: tick.time, condition },
                user: watch.user,
                symbol: watch.spec.symbol(),
                price: tick.price,
                threshold,
            });
        }
        None => {
            if comes_back(watch, state.told, tick.price) {
                state.told = Told::Nothing;
            }
        }
    }
}

/// The condition that holds and its threshold, if one does.
fn condition_of(watch: &Watch, price: Price) -> Option<(Condition, Price)> {
    if let Some(high) = watch.spec.high()
        && price > high
    {
        return Some((Condition::Above, high));
    }
    if let Some(low) = watch.spec.low()
        && price < low
    {
        return Some((Condition::Below, low));
    }
    None
}

/// `floor(price / step)` under the policy `step`, else 0.
fn bucket_of(watch: &Watch, price: Price) -> i64 {
    match watch.spec.policy() {
        Policy::Step { step } => price.units().div_euclid(step.units()),
        Policy::Crossing { .. } | Policy::Once => 0,
    }
}

/// Whether a condition is to be told, cooldown aside.
fn warrants(watch: &Watch, before: Told, now: Told) -> bool {
    match watch.spec.policy() {
        Policy::Crossing { .. } | Policy::Step { .. } => now != before,
        Policy::Once => before == Told::Nothing,
    }
}

/// Whether a price at which no condition holds re-arms the watch.
fn comes_back(watch: &Watch, told: Told, price: Price) -> bool {
    let (Policy::Crossing { hysteresis }, Told::Told { condition, .. }) =
        (watch.spec.policy(), told)
    else {
        return false;
    };
    match (condition, watch.spec.low(), watch.spec.high()) {
        (Condition::Above, _, Some(high)) => price.units() <= high.units() - hysteresis.units(),
        (Condition::Below, Some(low), _) => price.units() >= low.units() + hysteresis.units(),
        _ => false,
    }
}
