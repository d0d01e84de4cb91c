//! Watches as the evaluator reads them, and the list of changes it has not applied.

use std::time::Duration;

use tripline::model::{
    Condition, Partition, Policy, Symbol, Told, Version, Watch, WatchSpec, WatchState,
};
use tripline::pipeline::evaluate::{Applied, ChangeKind, Evaluation, PendingChange};
use tripline::pipeline::store::Fence;

use crate::fixture::{Fixture, ZERO, at, partition, price, span, spec, symbols};

fn other_symbol() -> Symbol {
    let mut names = (0..100).map(|n| format!("T{n}").parse().unwrap());
    names.find(|symbol| partition(*symbol) == Partition(1)).unwrap()
}

pub(crate) async fn watches_come_in_pages_with_their_states(f: &Fixture) {
    let user = f.hands.user("ann").await;
    let symbol = symbols(1)[0];
    let mut watches = Vec::new();
    for (low, high, policy, cooldown) in [
        (None, None, Policy::Once, 0),
        (Some("0.00000001"), Some("2"), Policy::Step { step: price("0.5") }, 9_999_999_999),
        (None, Some("3"), Policy::Crossing { hysteresis: "0.25".parse().unwrap() }, 60),
    ] {
        let spec = WatchSpec::new(symbol, low.map(price), high.map(price), policy, cooldown);
        watches.push(f.hands.watch(user, spec.unwrap()).await);
    }
    let elsewhere = WatchSpec::new(other_symbol(), None, None, Policy::Once, 0).unwrap();
    f.hands.watch(user, elsewhere).await;
    let state = WatchState {
        version: Version(1),
        told: Told::Told { condition: Condition::Above, bucket: i64::MAX },
        last_alert: Some(at(-1)),
    };
    let step = Evaluation { states: vec![(watches[1].id, state)], ..Default::default() };
    f.evaluate.commit(f.own().await, span(0, 1), &step).await.unwrap();

    let fresh = WatchState::default();
    let all = [(watches[0], fresh), (watches[1], state), (watches[2], fresh)];
    assert_eq!(f.evaluate.watches(ZERO, None, 2).await.unwrap(), all[..2]);
    assert_eq!(f.evaluate.watches(ZERO, Some(watches[1].id), 2).await.unwrap(), all[2..]);
}

/// Applies some changes as the evaluator does, without consuming anything.
async fn apply(f: &Fixture, fence: Fence, changes: &[PendingChange]) {
    let applied = changes.iter().map(|change| Applied {
        id: change.id,
        symbol: change.symbol,
        watch: match change.what {
            ChangeKind::Watch { current: Some((watch, _)), .. } => Some((watch.id, watch.version)),
            _ => None,
        },
        after: Some(at(5)),
    });
    let step = Evaluation { applied: applied.collect(), ..Default::default() };
    f.evaluate.commit(fence, span(0, 0), &step).await.unwrap();
}

pub(crate) async fn changes_are_seen_until_they_are_applied(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let symbol = watch.spec.symbol();
    f.hands.change(symbol, Some(watch.id)).await;
    f.hands.change(symbol, None).await;
    f.hands.change(other_symbol(), None).await;
    let fence = f.own().await;
    let seen = f.evaluate.changes(ZERO, 9).await.unwrap();
    let current = Some((watch, WatchState::default()));
    let what: Vec<_> = seen.iter().map(|change| (change.symbol, change.what)).collect();
    let expected = ChangeKind::Watch { watch: watch.id, current };
    assert_eq!(what, [(symbol, expected), (symbol, ChangeKind::Reset)]);
    // A step that applied none of them leaves them.
    f.evaluate.commit(fence, span(0, 0), &Evaluation::default()).await.unwrap();
    assert_eq!(f.evaluate.changes(ZERO, 9).await.unwrap(), seen);
    assert_eq!(f.evaluate.changes(ZERO, 1).await.unwrap(), seen[..1]);

    apply(f, fence, &seen[..1]).await;
    assert_eq!(f.evaluate.changes(ZERO, 9).await.unwrap(), seen[1..]);
    apply(f, fence, &seen[1..]).await;
    f.hands.run(format!("DELETE FROM watches WHERE id = {}", watch.id)).await;
    f.hands.change(symbol, Some(watch.id)).await;
    apply(f, fence, &f.evaluate.changes(ZERO, 9).await.unwrap()).await;
    assert_eq!(f.evaluate.changes(ZERO, 9).await.unwrap(), []);
    let recorded = f
        .hands
        .texts(
            "SELECT concat(symbol, ' ', coalesce(watch_id, '-'), ' ', coalesce(version, '-'), ' ', \
             after_ms, ' ', applied_ms) FROM applied_changes ORDER BY id",
        )
        .await;
    assert_eq!(
        recorded,
        [
            format!("{symbol} {} 1 5 1000000", watch.id),
            format!("{symbol} - - 5 1000000"),
            format!("{symbol} {} - 5 1000000", watch.id),
        ]
    );
}

/// A transaction may get its number first and commit last.
pub(crate) async fn a_change_that_commits_late_is_seen(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let symbol = watch.spec.symbol();
    let fence = f.own().await;
    f.hands.run(format!("INSERT INTO changes VALUES (7, 0, '{symbol}', NULL)")).await;
    let first = f.evaluate.changes(ZERO, 9).await.unwrap();
    apply(f, fence, &first).await;
    f.hands.run(format!("INSERT INTO changes VALUES (3, 0, '{symbol}', {})", watch.id)).await;
    let late = f.evaluate.changes(ZERO, 9).await.unwrap();
    assert!(matches!(late[..], [PendingChange { what: ChangeKind::Watch { .. }, .. }]), "{late:?}");
}

pub(crate) async fn a_change_says_how_the_watch_is_now(f: &Fixture) {
    let user = f.hands.user("ann").await;
    let deleted = f.hands.watch(user, spec()).await;
    let moved = f.hands.watch(user, spec()).await;
    let changed = f.hands.watch(user, spec()).await;
    let fence = f.own().await;
    let state = WatchState { version: Version(1), ..Default::default() };
    let states = [deleted, moved, changed].map(|watch| (watch.id, state)).to_vec();
    let step = Evaluation { states, ..Default::default() };
    f.evaluate.commit(fence, span(0, 0), &step).await.unwrap();

    // Deleting leaves a change of its own.
    f.hands.delete_watch(&deleted).await;
    for watch in [moved, changed] {
        f.hands.change(watch.spec.symbol(), Some(watch.id)).await;
    }
    f.hands
        .run(format!(
            "UPDATE watches SET symbol = '{}', `partition` = 1, version = 2 WHERE id = {}",
            other_symbol(),
            moved.id
        ))
        .await;
    f.hands
        .run(format!(
            "UPDATE watches SET paused = 1, version = 3, fresh_since = 2, cooldown_since = 2 \
             WHERE id = {}",
            changed.id
        ))
        .await;
    let now = Watch {
        version: Version(3),
        fresh_since: Version(2),
        cooldown_since: Version(2),
        paused: true,
        ..changed
    };
    let seen = f.evaluate.changes(ZERO, 9).await.unwrap();
    let currents: Vec<_> = seen
        .iter()
        .map(|change| match change.what {
            ChangeKind::Watch { watch, current } => (watch, current),
            ChangeKind::Reset => panic!("nobody reset a symbol"),
        })
        .collect();
    assert_eq!(currents, [(deleted.id, None), (moved.id, None), (changed.id, Some((now, state)))]);
    apply(f, fence, &seen).await;
    // The state of the deleted one goes with it; that of the moved one is its new owner's.
    let states = f.hands.texts("SELECT CAST(watch_id AS CHAR) FROM watch_states").await;
    assert_eq!(states, [moved.id.to_string(), changed.id.to_string()]);
}

pub(crate) async fn a_change_wakes_the_evaluator_of_its_partition(f: &Fixture) {
    let fence = f.own().await;
    let idle = f.evaluate.changes(ZERO, 9).await.unwrap();
    assert_eq!(idle, []);
    let turn = async {
        for _ in 0..1_000 {
            f.clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = f.evaluate.changed(ZERO) => panic!("nothing has changed"),
        () = turn => {}
    }
    f.hands.change(symbols(1)[0], None).await;
    let turn = async {
        tokio::task::yield_now().await;
        f.clock.advance(Duration::from_secs(1));
    };
    tokio::join!(f.evaluate.changed(ZERO), turn);
    let seen = f.evaluate.changes(ZERO, 9).await.unwrap();
    apply(f, fence, &seen).await;
}
