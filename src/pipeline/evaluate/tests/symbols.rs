//! What concerns a symbol as a whole: which ticks count, currencies, resets, restarts.

use super::{Both, spec, symbol, tick, watch};
use crate::model::{Currency, LastTick, Policy, Tick, Told, Version, WatchId, WatchState};
use crate::pipeline::evaluate::{CurrencyIdx, Engine, EngineTick, Outcome};

fn in_currency(tick: Tick, currency: &str) -> Tick {
    Tick { currency: Some(currency.parse().unwrap()), ..tick }
}

#[test]
fn a_tick_is_small() {
    assert_eq!(size_of::<EngineTick>(), 24);
}

#[test]
fn the_first_tick_that_counts_pins_the_currency() {
    let mut both = Both::default();
    both.apply(&watch(1, spec("90", "100", Policy::default(), 0)), WatchState::default());
    for (time_s, price, currency, expected, alerts) in [
        (1.0, "95", None, Outcome::Counted, 0),
        (1.0, "95", Some("EUR"), Outcome::Late, 0),
        (2.0, "95", Some("GBP"), Outcome::Counted, 0),
        (3.0, "9500", Some("GBp"), Outcome::Currency, 0),
        (2.5, "101", Some("GBP"), Outcome::Counted, 1),
        (3.0, "95", None, Outcome::Counted, 0),
        (3.0, "95", Some("EUR"), Outcome::Late, 0),
    ] {
        let tick = tick(time_s, price);
        let tick = currency.map_or(tick, |currency| in_currency(tick, currency));
        let (outcome, effects) = both.tick(&tick);
        assert_eq!((outcome, effects.alerts.len()), (expected, alerts), "{tick:?}");
    }
}

#[test]
fn a_reset_forgets_the_tick_the_currency_and_the_cooldowns_but_not_what_was_told() {
    let mut both = Both::default();
    both.apply(&watch(1, spec("90", "100", Policy::default(), 9_999_999)), WatchState::default());
    both.apply(&watch(2, spec("", "500", Policy::default(), 0)), WatchState::default());
    both.tick(&in_currency(tick(1e9, "101"), "USD"));
    let effects = both.reset_symbol(symbol("ZZ"));
    assert_eq!(effects.states.len(), 1, "only the watch that had told changes");
    let state = both.state(symbol("ZZ"), WatchId(1)).unwrap();
    assert!(state.told != Told::Nothing && state.last_alert.is_none());
    let (outcome, effects) = both.tick(&in_currency(tick(1.0, "101"), "EUR"));
    assert_eq!((outcome, effects.alerts.len()), (Outcome::Counted, 0));
    assert_eq!(both.tick(&tick(2.0, "89")).1.alerts.len(), 1);
}

#[test]
fn a_stored_state_is_taken_as_it_is_unless_the_watch_is_newer() {
    let one = watch(1, spec("90", "100", Policy::default(), 60));
    let zz = symbol("ZZ");
    for (stored_version, alerts, states) in [(0, 1, 1), (1, 0, 0), (3, 0, 0)] {
        let mut both = Both::default();
        both.tick(&tick(1.0, "105"));
        let stored = WatchState { version: Version(stored_version), ..WatchState::default() };
        let effects = both.apply(&one, stored);
        assert_eq!((effects.alerts.len(), effects.states.len()), (alerts, states));
        let state = both.state(zz, WatchId(1)).unwrap();
        assert_eq!(state.version, Version(stored_version.max(1)));
        // What was not evaluated at once is evaluated with the next tick, whatever its price.
        assert_eq!(both.tick(&tick(2.0, "105")).1.alerts.len(), 1 - alerts);
    }
}

#[test]
fn ticks_without_watches_count_too() {
    let mut engine = Engine::new();
    let zz = engine.symbol(symbol("ZZ"));
    assert_eq!(engine.find(b"ZZ"), Some(zz));
    assert_eq!(engine.find(b"YY"), None);
    assert_eq!(engine.name(zz), symbol("ZZ"));
    assert_eq!(engine.last(zz), None);
    let mut both = Both { engine, ..Both::default() };
    both.tick(&tick(1.0, "5"));
    let Tick { time, price, .. } = tick(1.0, "5");
    assert_eq!(both.engine.last(zz), Some(LastTick { time, price }));
    assert!(both.engine.is_empty() && both.reference.is_empty());
}

#[test]
fn a_currency_too_many_is_refused_rather_than_mixed_up() {
    let mut engine = Engine::new();
    let zz = engine.symbol(symbol("ZZ"));
    let letters = |mut number: usize| -> Currency {
        let mut text = String::from("AAAA");
        while number > 0 {
            text.push(char::from(b'A' + u8::try_from(number % 26).unwrap()));
            number /= 26;
        }
        text.parse().unwrap()
    };
    // Interned from the outside in: what matters is the bound, not a hostile source's speed.
    engine.fill_currencies((1..usize::from(u16::MAX)).map(letters));
    let over = engine.currency(Some("USD".parse().unwrap()));
    assert_eq!(over, CurrencyIdx::UNKNOWN);
    let Tick { time, price, .. } = tick(1.0, "5");
    let tick = EngineTick { time, price, symbol: zz, currency: over };
    assert_eq!(engine.tick(tick, &mut super::Effects::default()), Outcome::Currency);
    assert_eq!(engine.last(zz), None);
}
