//! What the evaluator's stage hands over to be committed.

use super::{spec, symbol, tick, watch};
use crate::model::{AlertSeq, MarketState, Offset, Partition, Policy, Tick, WatchState};
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

/// Records of which every third tells, every seventh does not decode and every fifth comes with
/// the addition of a watch before it.
fn mixed_inputs() -> Vec<Input> {
    let mut inputs = Vec::new();
    for at in 0..100u8 {
        let tick = tick(f64::from(at), if at % 3 == 0 { "3" } else { "1" });
        if at % 5 == 0 {
            let watch = watch(u64::from(at), spec("", "2", Policy::default(), 0));
            let current = Some((watch, WatchState::default()));
            let what = ChangeKind::Watch { watch: watch.id, current };
            let change = PendingChange { id: ChangeId(u64::from(at)), symbol: symbol("ZZ"), what };
            inputs.push(Input::Change(Box::new(change), tick.time));
        }
        let Input::Record(mut placed) = record(u64::from(at), &tick) else { unreachable!() };
        if at % 7 == 0 {
            placed.record.value = "?".into();
        }
        inputs.push(Input::Record(placed));
    }
    inputs
}

/// The numbers, watches and ticks' times of the alerts, and the records that do not decode.
fn outcome(step: &Step) -> (Vec<(u64, u64, i64)>, Vec<u64>) {
    let alerts = step
        .evaluation
        .alerts
        .iter()
        .map(|made| (made.seq.0, made.alert.id.watch.0, made.alert.id.time.millis()));
    let dead = step.evaluation.dead.iter().map(|dead| dead.offset.0);
    (alerts.collect(), dead.collect())
}

#[test]
fn a_batch_makes_what_its_inputs_make_one_by_one() {
    for alerts_max in [1, 7, 1_000] {
        let rules = || Rules::new(Partition(0), Offset(0), AlertSeq(0), 1_000, alerts_max);
        let (mut whole, mut single) = (rules(), rules());
        let (mut found, mut expected) = ((vec![], vec![]), (vec![], vec![]));
        let mut batch = mixed_inputs();
        let add = |all: &mut (Vec<_>, Vec<_>), step: &Step| {
            let (alerts, dead) = outcome(step);
            all.0.extend(alerts);
            all.1.extend(dead);
        };
        while !batch.is_empty() {
            let mut step = Step::default();
            whole.evaluate(&mut batch, &mut step);
            add(&mut found, &step);
        }
        for input in mixed_inputs() {
            let mut step = Step::default();
            single.evaluate(&mut vec![input], &mut step);
            add(&mut expected, &step);
        }
        assert_eq!(found, expected, "{alerts_max}");
        assert!(found.0.len() > 100 && found.1.len() == 15, "{found:?}");
    }
}
