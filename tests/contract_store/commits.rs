//! What a committed step of the evaluator leaves behind.

use bytes::Bytes;
use tripline::model::{
    AlertSeq, Condition, LastTick, MarketState, Offset, Told, Version, WatchState,
};
use tripline::pipeline::evaluate::{Evaluation, PricePoint, SymbolState};
use tripline::pipeline::store::{DeadRecord, StoreError};

use crate::fixture::{
    Fixture, PRICES_KEPT, ZERO, alert, at, numbered, partition, price, span, spec, symbols,
};

pub(crate) async fn alerts_are_unique_and_numbers_may_stay_unused(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let fence = f.own().await;
    let mut below = alert(&watch, 1);
    below.id.condition = Condition::Below;
    let mut newer = alert(&watch, 1);
    newer.id.version = Version(2);
    let first = vec![numbered(1, alert(&watch, 1))];
    let second = vec![
        numbered(2, alert(&watch, 1)),
        numbered(3, alert(&watch, 2)),
        numbered(4, below),
        numbered(5, newer),
    ];
    for (from, alerts) in [(0, first), (1, second)] {
        let step = Evaluation { alerts, ..Default::default() };
        f.evaluate.commit(fence, span(from, from + 1), &step).await.unwrap();
    }
    let found = f.evaluate.alerts_after(ZERO, AlertSeq(0), 9).await.unwrap();
    let seqs: Vec<u64> = found.iter().map(|alert| alert.seq.0).collect();
    assert_eq!(seqs, [1, 3, 4, 5]);
    assert_eq!(found[0], numbered(1, alert(&watch, 1)));
    // The number of the alert that was not made again counts all the same.
    assert_eq!(f.evaluate.own(ZERO, Offset(0)).await.unwrap().last, AlertSeq(5));
}

pub(crate) async fn a_number_taken_by_another_alert_fails_the_whole_step(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let fence = f.own().await;
    let alerts = vec![numbered(1, alert(&watch, 1)), numbered(1, alert(&watch, 2))];
    let (symbol, prices) = (symbols(1)[0], 0);
    let state = SymbolState { symbol, last: None, currency: None, market: None, prices };
    let step = Evaluation { alerts, symbols: vec![state], ..Default::default() };
    let failed = f.evaluate.commit(fence, span(0, 1), &step).await;
    assert!(matches!(failed, Err(StoreError::Permanent(_))), "{failed:?}");
    assert_eq!(f.evaluate.alerts_after(ZERO, AlertSeq(0), 9).await.unwrap(), []);
    assert_eq!(f.evaluate.symbols(ZERO, None, 9).await.unwrap(), []);
    f.evaluate.commit(fence, span(0, 1), &Evaluation::default()).await.unwrap();
}

pub(crate) async fn alerts_come_in_order_and_in_pages(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let alerts: Vec<_> = (1..=5).map(|time| alert(&watch, time)).collect();
    f.make(&alerts[..2]).await;
    f.make(&alerts[2..]).await;
    let page = async |after, limit| {
        let page = f.evaluate.alerts_after(ZERO, AlertSeq(after), limit).await.unwrap();
        page.iter().map(|alert| alert.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 3).await, [1, 2, 3]);
    assert_eq!(page(3, 3).await, [4, 5]);
    assert_eq!(page(5, 3).await, [0; 0]);
    let other = f.evaluate.alerts_after(tripline::model::Partition(1), AlertSeq(0), 9).await;
    assert_eq!(other.unwrap(), []);
}

pub(crate) async fn symbols_come_in_pages_as_they_were_written(f: &Fixture) {
    let fence = f.own().await;
    let names = symbols(3);
    let last = Some(LastTick { time: at(-5), price: price("9999999999.99999999") });
    let state = |index: usize, last, currency: Option<&str>, market| SymbolState {
        symbol: names[index],
        last,
        currency: currency.map(|text| text.parse().unwrap()),
        market,
        prices: 7,
    };
    let reset = state(1, None, None, None);
    let closed = Some(MarketState::Closed);
    let written = [state(0, last, Some("GBp"), closed), reset, state(2, last, None, None)];
    let step =
        Evaluation { symbols: written.iter().rev().copied().collect(), ..Default::default() };
    f.evaluate.commit(fence, span(0, 1), &step).await.unwrap();
    assert_eq!(f.evaluate.symbols(ZERO, None, 2).await.unwrap(), written[..2]);
    assert_eq!(f.evaluate.symbols(ZERO, Some(names[1]), 2).await.unwrap(), written[2..]);
    assert_eq!(f.evaluate.symbols(tripline::model::Partition(1), None, 2).await.unwrap(), []);

    for (position, market) in [(1, Some(MarketState::Pre)), (2, None)] {
        let again = state(0, None, Some("USD"), market);
        let step = Evaluation { symbols: vec![again], ..Default::default() };
        f.evaluate.commit(fence, span(position, position + 1), &step).await.unwrap();
        assert_eq!(f.evaluate.symbols(ZERO, None, 1).await.unwrap(), [again]);
    }
}

pub(crate) async fn the_newest_prices_are_kept(f: &Fixture) {
    let fence = f.own().await;
    let symbol = symbols(1)[0];
    let point = |number, text| PricePoint {
        symbol,
        number,
        time: at(i64::try_from(number).unwrap() * 1000),
        price: price(text),
    };
    let first = vec![point(1, "1"), point(2, "2"), point(3, "3")];
    // A later price of the same second, then more than are kept.
    let second = vec![point(5, "5"), point(4, "4"), point(3, "3.5")];
    for (from, prices) in [(0, first), (1, second)] {
        let step = Evaluation { prices, ..Default::default() };
        f.evaluate.commit(fence, span(from, from + 1), &step).await.unwrap();
    }
    let kept = f
        .hands
        .texts("SELECT concat(number, ' ', time_ms, ' ', price) FROM prices ORDER BY number")
        .await;
    assert_eq!(kept.len(), usize::try_from(PRICES_KEPT).unwrap());
    assert_eq!(kept, ["3 3000 350000000", "4 4000 400000000", "5 5000 500000000"]);
}

pub(crate) async fn an_older_state_never_replaces_a_newer_one(f: &Fixture) {
    let watch = f.hands.watch(f.hands.user("ann").await, spec()).await;
    let fence = f.own().await;
    let state = |version, bucket| WatchState {
        version: Version(version),
        told: Told::Told { condition: Condition::Below, bucket },
        last_alert: Some(at(bucket)),
    };
    let cases = [(state(2, 1), 1), (state(1, 2), 1), (state(2, 3), 3), (state(3, -4), -4)];
    for ((state, bucket), from) in cases.into_iter().zip(0..) {
        let step = Evaluation { states: vec![(watch.id, state)], ..Default::default() };
        f.evaluate.commit(fence, span(from, from + 1), &step).await.unwrap();
        let stored = f.evaluate.watches(ZERO, None, 9).await.unwrap()[0].1;
        assert_eq!(stored.last_alert, Some(at(bucket)));
    }
    let fresh = WatchState { version: Version(3), told: Told::Nothing, last_alert: None };
    let step = Evaluation { states: vec![(watch.id, fresh)], ..Default::default() };
    f.evaluate.commit(fence, span(4, 5), &step).await.unwrap();
    assert_eq!(f.evaluate.watches(ZERO, None, 9).await.unwrap(), [(watch, fresh)]);
}

pub(crate) async fn the_state_of_a_deleted_watch_is_dropped(f: &Fixture) {
    let user = f.hands.user("ann").await;
    let deleted = f.hands.watch(user, spec()).await;
    let stays = f.hands.watch(user, spec()).await;
    f.hands.delete_watch(&deleted).await;
    let state = WatchState { version: Version(1), ..Default::default() };
    let states = vec![(deleted.id, state), (stays.id, state)];
    let step = Evaluation { states, ..Default::default() };
    f.evaluate.commit(f.own().await, span(0, 1), &step).await.unwrap();
    let kept = f.hands.texts("SELECT CAST(watch_id AS CHAR) FROM watch_states").await;
    assert_eq!(kept, [stays.id.to_string()]);
}

pub(crate) async fn records_are_set_aside_once(f: &Fixture) {
    let fence = f.own().await;
    let record = |offset, key: Option<&'static [u8]>| DeadRecord {
        topic: "to-alert-system".into(),
        partition: ZERO,
        offset: Offset(offset),
        reason: "expected a tick".into(),
        key: key.map(Bytes::from_static),
        value: Bytes::from_static(b"\xff\x00"),
    };
    for from in 0..2 {
        let dead = vec![record(0, None), record(from, Some(b"k"))];
        let step = Evaluation { dead, ..Default::default() };
        f.evaluate.commit(fence, span(from, from + 1), &step).await.unwrap();
    }
    let kept = f
        .hands
        .texts(
            "SELECT concat(topic, '/', `partition`, '@', `offset`, ' ', reason, ' ', \
             CASE WHEN `key` IS NULL THEN 'NULL' ELSE hex(`key`) END, ' ', hex(value), ' ', set_aside_ms) \
             FROM dead_records ORDER BY `offset`",
        )
        .await;
    assert_eq!(
        kept,
        [
            "to-alert-system/0@0 expected a tick NULL FF00 1000000",
            "to-alert-system/0@1 expected a tick 6B FF00 1000000",
        ]
    );
}

pub(crate) async fn a_large_step_is_written_whole(f: &Fixture) {
    let user = f.hands.user("ann").await;
    let watch = f.hands.watch(user, spec()).await;
    let names = symbols(1000);
    assert!(names.iter().all(|symbol| partition(*symbol) == ZERO));
    let states = names.iter().map(|symbol| SymbolState {
        symbol: *symbol,
        last: Some(LastTick { time: at(1), price: price("1") }),
        currency: None,
        market: None,
        prices: 1,
    });
    let points =
        names.iter().map(|s| PricePoint { symbol: *s, number: 1, time: at(1), price: price("1") });
    let alerts = (1..=999).zip(1..).map(|(seq, time)| numbered(seq, alert(&watch, time)));
    let step = Evaluation {
        alerts: alerts.collect(),
        symbols: states.collect(),
        prices: points.collect(),
        ..Default::default()
    };
    f.evaluate.commit(f.own().await, span(0, 5000), &step).await.unwrap();
    assert_eq!(f.evaluate.alerts_after(ZERO, AlertSeq(0), 5000).await.unwrap(), step.alerts);
    assert_eq!(f.evaluate.symbols(ZERO, None, 5000).await.unwrap(), step.symbols);
    assert_eq!(f.hands.texts("SELECT symbol FROM prices").await.len(), 1000);
}
