//! Owning a partition, and what a step that was made before, elsewhere or by another does.

use tripline::model::{AlertSeq, LastTick, Offset, Partition, Version, WatchState};
use tripline::pipeline::evaluate::{Applied, ChangeId, Evaluation, Owned, SymbolState};
use tripline::pipeline::store::{Fence, StoreError};

use crate::fixture::{Fixture, ZERO, alert, at, numbered, price, span, spec, symbols};

pub(crate) async fn a_fresh_partition_stands_at_the_earliest_offset(f: &Fixture) {
    let owned = f.evaluate.own(ZERO, Offset(40)).await.unwrap();
    assert_eq!(owned.position, Offset(40));
    assert_eq!(f.notify.own(ZERO, Offset(9)).await.unwrap().position, Offset(9));
    // From then on it stands where it was left, whatever the log still has.
    assert_eq!(f.evaluate.own(ZERO, Offset(50)).await.unwrap().position, Offset(40));
    let fence = f.evaluate.own(ZERO, Offset(50)).await.unwrap().fence;
    f.evaluate.commit(fence, span(40, 41), &Evaluation::default()).await.unwrap();
    assert_eq!(f.evaluate.own(ZERO, Offset(50)).await.unwrap().position, Offset(41));
}

pub(crate) async fn a_new_owner_voids_the_one_before(f: &Fixture) {
    let first = f.evaluate.own(ZERO, Offset(0)).await.unwrap();
    assert_eq!((first.position, first.last, first.published), Default::default());
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let alerts = vec![numbered(1, alert(&watch, 1)), numbered(2, alert(&watch, 2))];
    let step = Evaluation { alerts, published: AlertSeq(1), ..Default::default() };
    f.evaluate.commit(first.fence, span(0, 7), &step).await.unwrap();

    let Owned { fence, position, last, published } = f.evaluate.own(ZERO, Offset(0)).await.unwrap();
    assert!(fence.epoch > first.fence.epoch);
    assert_eq!((position, last, published), (Offset(7), AlertSeq(2), AlertSeq(1)));
    let stale = f.evaluate.commit(first.fence, span(7, 8), &Evaluation::default()).await;
    let epoch = first.fence.epoch;
    assert_eq!(stale, Err(StoreError::Fenced { partition: ZERO, epoch }));
    f.evaluate.commit(fence, span(7, 8), &Evaluation::default()).await.unwrap();
}

pub(crate) async fn owners_of_other_partitions_and_topics_are_left_alone(f: &Fixture) {
    let zero = f.own().await;
    let one = f.evaluate.own(Partition(1), Offset(0)).await.unwrap();
    let notifier = f.notify.own(ZERO, Offset(0)).await.unwrap();
    f.evaluate.commit(zero, span(0, 5), &Evaluation::default()).await.unwrap();
    f.evaluate.commit(one.fence, span(0, 3), &Evaluation::default()).await.unwrap();
    let claimant = crate::deliveries::claimant("a");
    f.notify.accept(notifier.fence, span(0, 2), &[], &[], &claimant, 1).await.unwrap();
    assert_eq!(f.evaluate.own(ZERO, Offset(0)).await.unwrap().position, Offset(5));
    assert_eq!(f.evaluate.own(Partition(1), Offset(0)).await.unwrap().position, Offset(3));
    assert_eq!(f.notify.own(ZERO, Offset(0)).await.unwrap().position, Offset(2));
    let beyond = f.evaluate.own(Partition(2), Offset(0)).await.unwrap_err();
    assert!(!beyond.is_transient(), "{beyond}");
}

pub(crate) async fn a_stale_owner_commits_nothing(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    f.hands.change(watch.spec.symbol(), Some(watch.id)).await;
    let stale = f.own().await;
    let never = Fence { partition: Partition(1), epoch: stale.epoch };
    f.own().await;
    let symbol = watch.spec.symbol();
    let step = Evaluation {
        alerts: vec![numbered(1, alert(&watch, 1))],
        states: vec![(watch.id, WatchState { version: Version(1), ..Default::default() })],
        symbols: vec![SymbolState {
            symbol,
            last: Some(LastTick { time: at(1), price: price("1") }),
            currency: None,
            market: None,
            prices: 0,
        }],
        applied: vec![Applied { id: ChangeId(1), symbol, watch: None, after: None }],
        ..Default::default()
    };
    for fence in [stale, never] {
        let refused = f.evaluate.commit(fence, span(0, 1), &step).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
    }
    assert_eq!(f.evaluate.alerts_after(ZERO, AlertSeq(0), 9).await.unwrap(), []);
    assert_eq!(f.evaluate.symbols(ZERO, None, 9).await.unwrap(), []);
    let found = f.evaluate.watches(ZERO, None, 9).await.unwrap();
    assert_eq!(found, [(watch, WatchState::default())]);
    assert_eq!(f.evaluate.changes(ZERO, 9).await.unwrap().len(), 1);
    assert_eq!(f.evaluate.own(ZERO, Offset(0)).await.unwrap().position, Offset(0));
}

pub(crate) async fn a_step_from_elsewhere_is_refused(f: &Fixture) {
    let fence = f.own().await;
    f.evaluate.commit(fence, span(0, 5), &Evaluation::default()).await.unwrap();
    for (from, to) in [(0, 4), (4, 6), (6, 7)] {
        let refused = f.evaluate.commit(fence, span(from, to), &Evaluation::default()).await;
        let (expected, found) = (Offset(from), Offset(5));
        assert_eq!(refused, Err(StoreError::Position { partition: ZERO, expected, found }));
    }
    // It ends where the partition stands, but with alerts that the store has not seen.
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let alerts = vec![numbered(1, alert(&watch, 1))];
    let other = Evaluation { alerts, ..Default::default() };
    let refused = f.evaluate.commit(fence, span(3, 5), &other).await;
    assert!(matches!(refused, Err(StoreError::Position { .. })), "{refused:?}");
}

pub(crate) async fn a_repeated_step_succeeds_and_does_nothing(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let fence = f.own().await;
    let symbol = |text| SymbolState {
        symbol: symbols(1)[0],
        last: Some(LastTick { time: at(1), price: price(text) }),
        currency: None,
        market: None,
        prices: 1,
    };
    let mut step = Evaluation {
        alerts: vec![numbered(1, alert(&watch, 1))],
        symbols: vec![symbol("1")],
        ..Default::default()
    };
    f.evaluate.commit(fence, span(0, 5), &step).await.unwrap();
    step.symbols = vec![symbol("2")];
    f.evaluate.commit(fence, span(0, 5), &step).await.unwrap();
    assert_eq!(f.evaluate.symbols(ZERO, None, 9).await.unwrap(), [symbol("1")]);
    let owned = f.evaluate.own(ZERO, Offset(0)).await.unwrap();
    assert_eq!((owned.position, owned.last), (Offset(5), AlertSeq(1)));
    assert_eq!(f.evaluate.alerts_after(ZERO, AlertSeq(0), 9).await.unwrap().len(), 1);
    // The same step of an owner before is fenced, even though it did commit.
    let refused = f.evaluate.commit(fence, span(0, 5), &step).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{refused:?}");
}

pub(crate) async fn a_repeated_step_that_consumed_nothing_is_known(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let symbol = watch.spec.symbol();
    f.hands.change(symbol, Some(watch.id)).await;
    let fence = f.own().await;
    let id = f.evaluate.changes(ZERO, 9).await.unwrap()[0].id;
    let applied = vec![Applied { id, symbol, watch: Some((watch.id, Version(1))), after: None }];
    let mut step = Evaluation { applied, ..Default::default() };
    for _ in 0..2 {
        f.evaluate.commit(fence, span(0, 0), &step).await.unwrap();
    }
    step.alerts = vec![numbered(1, alert(&watch, 1))];
    for _ in 0..2 {
        f.evaluate.commit(fence, span(0, 0), &step).await.unwrap();
    }
    assert_eq!(f.evaluate.own(ZERO, Offset(0)).await.unwrap().last, AlertSeq(1));
    assert_eq!(f.evaluate.alerts_after(ZERO, AlertSeq(0), 9).await.unwrap(), step.alerts);
}

pub(crate) async fn published_never_goes_back(f: &Fixture) {
    let fence = f.own().await;
    for (from, published) in [(0, 3), (1, 1)] {
        let step = Evaluation { published: AlertSeq(published), ..Default::default() };
        f.evaluate.commit(fence, span(from, from + 1), &step).await.unwrap();
    }
    assert_eq!(f.evaluate.own(ZERO, Offset(0)).await.unwrap().published, AlertSeq(3));
}
