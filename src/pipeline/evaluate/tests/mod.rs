//! Tables for the sentences of the contract, and properties that hold the engine to the
//! reference.

mod policies;
mod properties;
mod rules;
mod symbols;

use super::reference::Reference;
use super::{Effects, Engine, EngineTick, Outcome};
use crate::model::{
    Policy, Symbol, Tick, Timestamp, UserId, Version, Watch, WatchId, WatchSpec, WatchState,
};

/// The engine and the reference, which must not differ.
#[derive(Default)]
struct Both {
    engine: Engine,
    reference: Reference,
}

impl Both {
    fn tick(&mut self, tick: &Tick) -> (Outcome, Effects) {
        let symbol = self.engine.symbol(tick.symbol);
        let currency = self.engine.currency(tick.currency);
        let packed = EngineTick { time: tick.time, price: tick.price, symbol, currency };
        let (mut found, mut expected) = (Effects::default(), Effects::default());
        self.engine.look_ahead(&[packed]);
        let outcome = self.engine.tick(packed, &mut found);
        assert_eq!(outcome, self.reference.tick(tick, &mut expected), "{tick:?}");
        assert_eq!(found, expected, "{tick:?}");
        assert_eq!(self.engine.last(symbol), self.reference.last(tick.symbol));
        assert_eq!(self.engine.pinned(symbol), self.reference.pinned(tick.symbol));
        self.engine.check_gate(tick.symbol);
        (outcome, found)
    }

    fn apply(&mut self, watch: &Watch, stored: WatchState) -> Effects {
        let (mut found, mut expected) = (Effects::default(), Effects::default());
        self.engine.look_ahead_changes([(watch.spec.symbol(), watch.id)]);
        self.engine.apply(watch, stored, &mut found);
        self.reference.apply(watch, stored, &mut expected);
        assert_eq!(found, expected, "{watch:?}");
        assert_eq!(self.engine.len(), self.reference.len());
        self.engine.check_gate(watch.spec.symbol());
        found
    }

    fn remove(&mut self, symbol: Symbol, watch: WatchId) -> bool {
        let removed = self.engine.remove(symbol, watch);
        assert_eq!(removed, self.reference.remove(symbol, watch), "{watch}");
        assert_eq!(self.engine.len(), self.reference.len());
        self.engine.check_gate(symbol);
        removed
    }

    fn reset_symbol(&mut self, symbol: Symbol) -> Effects {
        let (mut found, mut expected) = (Effects::default(), Effects::default());
        self.engine.reset_symbol(symbol, &mut found);
        self.reference.reset_symbol(symbol, &mut expected);
        assert_eq!(found, expected, "{symbol}");
        self.engine.check_gate(symbol);
        found
    }

    fn state(&self, symbol: Symbol, watch: WatchId) -> Option<WatchState> {
        let state = self.engine.state(symbol, watch);
        assert_eq!(state, self.reference.state(symbol, watch), "{watch}");
        state
    }
}

fn symbol(text: &str) -> Symbol {
    text.parse().unwrap()
}

fn spec(low: &str, high: &str, policy: Policy, cooldown_s: u64) -> WatchSpec {
    let price = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    WatchSpec::new(symbol("ZZ"), price(low), price(high), policy, cooldown_s).unwrap()
}

fn watch(id: u64, spec: WatchSpec) -> Watch {
    Watch {
        id: WatchId(id),
        user: UserId(7),
        version: Version::FIRST,
        fresh_since: Version::FIRST,
        cooldown_since: Version::FIRST,
        paused: false,
        spec,
    }
}

/// The same watch after a change to other values.
fn changed(watch: &Watch, spec: WatchSpec, paused: bool) -> Watch {
    use crate::model::Change;
    let version = watch.version.next();
    let change = watch.spec.change_to(&spec);
    Watch {
        version,
        fresh_since: if change == Change::StartsAfresh { version } else { watch.fresh_since },
        cooldown_since: match change {
            Change::StartsAfresh | Change::EndsCooldown => version,
            Change::None | Change::KeepsState => watch.cooldown_since,
        },
        paused,
        spec,
        ..*watch
    }
}

/// A tick of ZZ, with a time in seconds.
fn tick(time_s: f64, price: &str) -> Tick {
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
    let time = Timestamp::from_millis((time_s * 1_000.0).round() as i64).unwrap();
    Tick { symbol: symbol("ZZ"), time, price: price.parse().unwrap(), currency: None, market: None }
}
