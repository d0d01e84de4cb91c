//! What the evaluator's stage hands over to be committed.

use super::{symbol, tick};
use crate::model::{AlertSeq, MarketState, Offset, Partition, Tick};
use crate::pipeline::broker::Placed;
use crate::pipeline::evaluate::{
    ChangeId, ChangeKind, Input, PendingChange, Rules, Step, SymbolState,
};
use crate::pipeline::record::encode_tick;
use crate::pipeline::stage::Evaluate;

fn rules() -> Rules {
    Rules::new(Partition(0), Offset(0), AlertSeq(0), 1_000, 1_000)
}

/// The state of the one symbol after an input.
fn after(rules: &mut Rules, input: Input) -> SymbolState {
    let mut step = Step::default();
    rules.evaluate(&mut vec![input, Input::Flush], &mut step);
    let [state] = step.evaluation.symbols[..] else { panic!("{step:?}") };
    state
}

fn record(offset: u64, tick: &Tick) -> Input {
    Input::Record(Placed { offset: Offset(offset), record: encode_tick(tick, tick.time) })
}

#[test]
fn the_market_is_as_the_last_tick_that_counted_has_it() {
    let mut rules = rules();
    let at = |time_s, market| Tick { market, ..tick(time_s, "1") };
    let (pre, regular) = (Some(MarketState::Pre), Some(MarketState::Regular));
    assert_eq!(after(&mut rules, record(0, &at(1.0, pre))).market, pre);
    let mut step = Step::default();
    rules.evaluate(&mut vec![record(1, &at(1.0, regular)), Input::Flush], &mut step);
    assert_eq!((step.late, step.evaluation.symbols.len()), (1, 0));
    let stored = after(&mut rules, record(2, &at(2.0, regular)));
    assert_eq!(stored.market, regular);

    let mut restored = Rules::new(Partition(0), Offset(3), AlertSeq(0), 1_000, 1_000);
    restored.restore_symbol(&stored);
    let change = |what| PendingChange { id: ChangeId(1), symbol: symbol("ZZ"), what };
    let reset = Input::Change(Box::new(change(ChangeKind::Reset)), tick(3.0, "1").time);
    for rules in [&mut rules, &mut restored] {
        assert_eq!(after(rules, record(3, &at(3.0, None))).market, None);
        assert_eq!(after(rules, record(4, &at(4.0, pre))).market, pre);
        assert_eq!(after(rules, reset.clone()).market, None);
    }
}
