//! One table row for each sentence about the repeat policies.

use super::{Both, changed, spec, tick, watch};
use crate::model::{Policy, WatchSpec, WatchState};

fn crossing(hysteresis: &str) -> Policy {
    Policy::Crossing { hysteresis: hysteresis.parse().unwrap() }
}

fn step(step: &str) -> Policy {
    Policy::Step { step: step.parse().unwrap() }
}

/// Runs `time price[!]` ticks, where `!` stands for an alert, against one watch.
fn check(sentence: &str, spec: WatchSpec, ticks: &str) {
    let mut both = Both::default();
    both.apply(&watch(1, spec), WatchState::default());
    let mut found = Vec::new();
    for part in ticks.split(", ") {
        let (time, price) = part.split_once(' ').unwrap();
        let price = price.trim_end_matches('!');
        let (_, effects) = both.tick(&tick(time.parse().unwrap(), price));
        let mark = if effects.alerts.is_empty() { "" } else { "!" };
        found.push(format!("{time} {price}{mark}"));
    }
    assert_eq!(found.join(", "), ticks, "{sentence}");
}

#[test]
fn every_sentence_about_the_policies_holds() {
    let none = || crossing("0");
    for (sentence, spec, ticks) in [
        (
            "both comparisons are strict",
            spec("90", "100", none(), 0),
            "1 100, 2 100.00000001!, 3 90, 4 89.99999999!",
        ),
        (
            "a standing condition is told once until the price comes back to the threshold",
            spec("90", "100", none(), 0),
            "1 101!, 2 150, 3 100.00000001, 4 100, 5 101!, 6 89!, 7 80, 8 90, 9 89!",
        ),
        (
            "straight from above to below (or back) tells the new condition",
            spec("90", "100", none(), 0),
            "1 101!, 2 89!, 3 101!, 4 102, 5 89!",
        ),
        (
            "inside the band but within the hysteresis the state stays",
            spec("90", "100", crossing("2"), 0),
            "1 101!, 2 98.00000001, 3 101, 4 98, 5 101!, 6 89!, 7 91.99999999, 8 89, 9 92, 10 89!",
        ),
        (
            "a hysteresis wider than the band re-arms nothing, but the other side still tells",
            spec("90", "100", crossing("20"), 0),
            "1 101!, 2 90, 3 101, 4 89!, 5 100, 6 89, 7 101!, 8 99, 9 103",
        ),
        (
            "a hysteresis wider than the threshold never re-arms a watch without the other",
            spec("", "5", crossing("7"), 0),
            "1 6!, 2 0.00000001, 3 6",
        ),
        ("a watch without thresholds never tells", spec("", "", none(), 0), "1 1, 2 9999, 3 1"),
        ("only a low threshold", spec("90", "", none(), 0), "1 1!, 2 9999, 3 1!, 4 90, 5 89!"),
        (
            "an alert less than the cooldown after the last one is held back, and changes nothing",
            spec("90", "100", none(), 60),
            "1 101!, 2 89, 3 100, 4 101, 60.999 101, 61 101!, 62 89, 121 89!",
        ),
        (
            "during the cooldown a price inside the band re-arms; the first tick after it tells",
            spec("90", "100", none(), 60),
            "1 101!, 30 95, 31 102, 32 103, 61.001 103!, 200 103",
        ),
        (
            "a held alert does not re-arm, though its price is beyond the point that does",
            spec("90", "100", none(), 60),
            "1 101!, 30 80, 70 101, 71 80!",
        ),
        (
            "what was held back and is over is never told",
            spec("90", "100", none(), 60),
            "1 101!, 2 80, 3 95, 100 95, 101 101!",
        ),
        (
            "step: the pair of condition and whole step, not the decimals",
            spec("90", "100", step("1"), 0),
            "1 100.5!, 2 100.99999999, 3 101!, 4 100.7!, 5 89.5!, 6 89, 7 88.99999999!",
        ),
        (
            "step: coming back inside the band changes nothing",
            spec("90", "100", step("1"), 0),
            "1 101!, 2 95, 3 101.5, 4 95, 5 102!, 6 95, 7 89!, 8 95, 9 89.5, 10 102!",
        ),
        (
            "step: one bucket holds both sides, the condition tells them apart",
            spec("90", "100", step("1000"), 0),
            "1 101!, 2 500, 3 89!, 4 50, 5 999!, 6 1000!, 7 999!",
        ),
        (
            "step: a cooldown holds back whole steps",
            spec("90", "100", step("0.1"), 10),
            "1 100.1!, 2 100.2, 3 100.3, 11 100.3!, 12 100.4, 21 100.35, 22 100.45!",
        ),
        (
            "once: told the first time, then done",
            spec("90", "100", Policy::Once, 0),
            "1 95, 2 101!, 3 95, 4 89, 5 101",
        ),
        (
            "a watch may begin on the far side of a threshold",
            spec("90", "100", none(), 0),
            "1 50!, 2 50, 3 95, 4 50!",
        ),
        (
            "repeated and late ticks change nothing",
            spec("90", "100", none(), 0),
            "5 101!, 5 89, 4.999 89, 5 101, 6 101, 3 95, 7 102",
        ),
        (
            "the longest cooldown does not overflow",
            spec("90", "100", none(), WatchSpec::COOLDOWN_S_MAX),
            "1 101!, 2 89, 3 95, 9999999999.999 89, 10000000000 89!",
        ),
        (
            "the largest prices do not overflow",
            spec("9999999999.99999997", "9999999999.99999998", crossing("9999999999"), 0),
            "1 9999999999.99999999!, 2 0.00000001!, 3 9999999999.99999998, 4 9999999999.99999999!",
        ),
    ] {
        check(sentence, spec, ticks);
    }
}

#[test]
fn a_new_changed_or_resumed_watch_is_evaluated_at_once() {
    let mut both = Both::default();
    both.tick(&tick(1.0, "105"));
    let first = watch(1, spec("90", "100", crossing("0"), 60));
    let effects = both.apply(&first, WatchState::default());
    assert_eq!(effects.alerts.len(), 1, "new");
    assert_eq!(effects.states.len(), 1);
    assert!(both.apply(&first, WatchState::default()).alerts.is_empty(), "again");

    let second = changed(&first, spec("90", "101", crossing("0"), 60), false);
    let effects = both.apply(&second, WatchState::default());
    assert_eq!(effects.alerts.len(), 1, "other thresholds: afresh, and no cooldown");
    assert_eq!(effects.alerts[0].threshold.to_string(), "101");

    let third = changed(&second, spec("90", "101", crossing("0"), 5), false);
    let effects = both.apply(&third, WatchState::default());
    assert!(effects.alerts.is_empty(), "another cooldown keeps the state");
    assert_eq!(effects.states.len(), 1, "with its new version");

    let paused = changed(&third, third.spec, true);
    both.apply(&paused, WatchState::default());
    assert!(both.tick(&tick(20.0, "80")).1.alerts.is_empty(), "paused");
    let resumed = changed(&paused, third.spec, false);
    let effects = both.apply(&resumed, WatchState::default());
    assert_eq!(effects.alerts.len(), 1, "resumed");
    assert_eq!(effects.alerts[0].id.to_string(), "1-5-20000-below");
    assert!(both.apply(&paused, WatchState::default()).states.is_empty(), "an older version");
}

#[test]
fn a_step_watch_keeps_its_pair_when_only_thresholds_change() {
    let mut both = Both::default();
    let first = watch(1, spec("90", "100", step("1"), 60));
    both.apply(&first, WatchState::default());
    assert_eq!(both.tick(&tick(1.0, "105.5")).1.alerts.len(), 1);
    let second = changed(&first, spec("90", "104", step("1"), 60), false);
    assert!(both.apply(&second, WatchState::default()).alerts.is_empty(), "the same pair");
    let effects = both.tick(&tick(2.0, "106")).1;
    assert_eq!(effects.alerts.len(), 1, "its cooldown is over all the same");
    let third = changed(&second, spec("90", "104", step("2"), 60), false);
    assert_eq!(both.apply(&third, WatchState::default()).alerts.len(), 1, "another step");
}

#[test]
fn alerts_of_one_tick_come_by_watch_id() {
    let mut both = Both::default();
    for id in [900, 3, 77, 500, 1, 42].into_iter().chain(1_000..1_300).chain(100..200) {
        both.apply(&watch(id, spec("90", "100", crossing("0"), 0)), WatchState::default());
    }
    let alerts = both.tick(&tick(1.0, "101")).1.alerts;
    assert_eq!(alerts.len(), 406);
    assert!(alerts.is_sorted_by_key(|alert| alert.id.watch));
}
