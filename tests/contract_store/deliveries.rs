//! How alerts become deliveries, and who may send them.

use std::time::Duration;

use bytes::Bytes;
use tripline::model::Offset;
use tripline::pipeline::notify::{Claimant, Claimed, Delivery};
use tripline::pipeline::store::{DeadRecord, Fence, StoreError};
use tripline::trace::TraceParent;

use crate::fixture::{Fixture, ZERO, alert, at, incoming, span};

pub(crate) const LEASE_MS: u64 = 60_000;

pub(crate) fn claimant(owner: &str) -> Claimant {
    Claimant { owner: owner.to_owned(), lease_ms: LEASE_MS }
}

pub(crate) async fn own(f: &Fixture) -> Fence {
    f.notify.own(ZERO, Offset(0)).await.unwrap().fence
}

/// The times of the alerts of some deliveries, which tell them apart.
fn times(deliveries: &[Delivery]) -> Vec<i64> {
    deliveries.iter().map(|delivery| delivery.alert.id.time.millis()).collect()
}

pub(crate) async fn an_alert_gets_one_delivery(f: &Fixture) {
    let (_, alerts) = f.alerts(2).await;
    let fence = own(f).await;
    let dead = [DeadRecord {
        topic: "to-notifier".into(),
        partition: ZERO,
        offset: Offset(2),
        reason: "expected an alert".into(),
        key: None,
        value: Bytes::from_static(b"x"),
    }];
    let ann = claimant("a");
    let got = f.notify.accept(fence, span(0, 3), &alerts, &dead, &ann, 9).await.unwrap();
    assert_eq!(times(&got), [1, 2]);
    assert_eq!(got[0].alert, alerts[0].alert);
    assert_eq!(got[0].email.as_str(), "ann@Example.com");
    assert_eq!((got[0].attempts, got[0].accepted), (0, at(999)));
    // The same alerts may come again, because publication repeats.
    let again = f.notify.accept(fence, span(3, 5), &alerts, &[], &ann, 9).await.unwrap();
    assert_eq!(again, []);
    assert_eq!(f.hands.deliveries().await.len(), 2);
    assert_eq!(f.hands.texts("SELECT reason FROM dead_records").await, ["expected an alert"]);
    assert_eq!(f.notify.own(ZERO, Offset(0)).await.unwrap().position, Offset(5));
}

pub(crate) async fn the_trace_is_kept_with_the_delivery(f: &Fixture) {
    let (_, mut alerts) = f.alerts(3).await;
    let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceParent::parse(header);
    (alerts[0].trace, alerts[2].trace) = (trace, trace);
    let ann = claimant("a");
    let got = f.notify.accept(own(f).await, span(0, 3), &alerts, &[], &ann, 2).await.unwrap();
    assert_eq!(got.iter().map(|delivery| delivery.trace).collect::<Vec<_>>(), [trace, None]);
    let other = f.notify.claim(&claimant("b"), 9).await.unwrap().deliveries;
    assert_eq!(other.iter().map(|delivery| delivery.trace).collect::<Vec<_>>(), [trace]);
}

pub(crate) async fn a_repeated_acceptance_claims_nothing(f: &Fixture) {
    let (_, alerts) = f.alerts(2).await;
    let fence = own(f).await;
    let ann = claimant("a");
    f.notify.accept(fence, span(0, 2), &alerts, &[], &ann, 1).await.unwrap();
    let again = f.notify.accept(fence, span(0, 2), &alerts, &[], &ann, 9).await.unwrap();
    assert_eq!(again, []);
    let refused = f.notify.accept(fence, span(1, 3), &alerts, &[], &ann, 9).await;
    let (expected, found) = (Offset(1), Offset(2));
    assert_eq!(refused, Err(StoreError::Position { partition: ZERO, expected, found }));
}

pub(crate) async fn a_stale_notifier_accepts_nothing(f: &Fixture) {
    let (_, alerts) = f.alerts(1).await;
    let stale = own(f).await;
    own(f).await;
    let refused = f.notify.accept(stale, span(0, 1), &alerts, &[], &claimant("a"), 9).await;
    let epoch = stale.epoch;
    assert_eq!(refused, Err(StoreError::Fenced { partition: ZERO, epoch }));
    assert_eq!(f.hands.deliveries().await, [""; 0]);
}

pub(crate) async fn only_so_many_are_claimed_at_once(f: &Fixture) {
    let (_, alerts) = f.alerts(5).await;
    let fence = own(f).await;
    let ann = claimant("a");
    let got = f.notify.accept(fence, span(0, 5), &alerts, &[], &ann, 2).await.unwrap();
    assert_eq!(times(&got), [1, 2]);
    let none = f.notify.claim(&ann, 0).await.unwrap();
    assert_eq!(none.deliveries, []);
    let got = f.notify.claim(&ann, 2).await.unwrap();
    assert_eq!(times(&got.deliveries), [3, 4]);
    // Another process gets what is left, and nothing twice.
    let got = f.notify.claim(&claimant("b"), 9).await.unwrap();
    assert_eq!(times(&got.deliveries), [5]);
    assert_eq!(f.notify.claim(&ann, 9).await.unwrap().deliveries, []);
}

pub(crate) async fn an_alert_that_is_not_stored_is_dropped(f: &Fixture) {
    let (watch, alerts) = f.alerts(1).await;
    let mut other = alerts[0];
    other.alert.id.version = watch.version.next();
    let all = [incoming(alert(&watch, 77)), other, alerts[0]];
    let got = f.notify.accept(own(f).await, span(0, 3), &all, &[], &claimant("a"), 9).await;
    assert_eq!(times(&got.unwrap()), [1]);
    assert_eq!(f.hands.deliveries().await.len(), 1);
}

pub(crate) async fn the_alert_of_something_deleted_is_cancelled(f: &Fixture) {
    let (watch, mut alerts) = f.alerts(1).await;
    let gone = f.hands.user("bob").await;
    let his = f.hands.watch(gone, watch.spec).await;
    f.make(&[alert(&his, 5)]).await;
    alerts.push(incoming(alert(&his, 5)));
    f.hands.delete_watch(&watch).await;
    f.hands.delete_user(gone).await;
    let got = f.notify.accept(own(f).await, span(0, 2), &alerts, &[], &claimant("a"), 9).await;
    assert_eq!(got.unwrap(), []);
    let states = f.hands.deliveries().await;
    assert_eq!(states, ["cancelled (attempts 0): watch", "cancelled (attempts 0): user"]);
    f.clock.advance(Duration::from_millis(LEASE_MS));
    assert_eq!(f.notify.claim(&claimant("a"), 9).await.unwrap(), Claimed::default());
}

pub(crate) async fn nothing_is_claimed_after_a_deletion(f: &Fixture) {
    for (index, delete_user) in [true, false].into_iter().enumerate() {
        let name = format!("user{index}");
        let user = f.hands.user(&name).await;
        let watch = f.hands.watch(user, crate::fixture::spec()).await;
        let alerts = [alert(&watch, 1), alert(&watch, 2)];
        f.make(&alerts).await;
        let owned = f.notify.own(ZERO, Offset(0)).await.unwrap();
        let from = owned.position.0;
        let step = span(from, from + 2);
        let ann = claimant("a");
        let incoming = alerts.map(incoming);
        let got = f.notify.accept(owned.fence, step, &incoming, &[], &ann, 1).await.unwrap();
        assert_eq!(times(&got), [1]);
        if delete_user {
            f.hands.delete_user(user).await;
        } else {
            f.hands.delete_watch(&watch).await;
        }
        // Neither the one that waited, nor the claimed one once its lease is over.
        assert_eq!(f.notify.claim(&ann, 9).await.unwrap().deliveries, []);
        f.clock.advance(Duration::from_millis(LEASE_MS * 2));
        assert_eq!(f.notify.claim(&ann, 9).await.unwrap().deliveries, []);
    }
}

pub(crate) async fn a_claim_lasts_as_long_as_its_lease(f: &Fixture) {
    let (_, alerts) = f.alerts(1).await;
    let (ann, bob) = (claimant("a"), claimant("b"));
    let got = f.notify.accept(own(f).await, span(0, 1), &alerts, &[], &ann, 9).await.unwrap();
    let lease_end = at(1_000_000 + LEASE_MS.cast_signed());
    f.clock.advance(Duration::from_millis(LEASE_MS - 1));
    let waiting = Claimed { deliveries: Vec::new(), next_due: Some(lease_end) };
    assert_eq!(f.notify.claim(&bob, 9).await.unwrap(), waiting);
    f.clock.advance(Duration::from_millis(1));
    let taken = f.notify.claim(&bob, 9).await.unwrap();
    assert_eq!(taken.deliveries, got);
    // The new claim has a lease of its own.
    assert_eq!(f.notify.claim(&ann, 9).await.unwrap().deliveries, []);
    f.clock.advance(Duration::from_millis(LEASE_MS));
    assert_eq!(f.notify.claim(&ann, 9).await.unwrap().deliveries, got);
}

pub(crate) async fn the_longest_due_comes_first(f: &Fixture) {
    use tripline::pipeline::notify::{Outcome, Settlement};
    let (_, alerts) = f.alerts(3).await;
    let ann = claimant("a");
    let got = f.notify.accept(own(f).await, span(0, 3), &alerts, &[], &ann, 9).await.unwrap();
    let settle = |index: usize, due_ms| Settlement {
        id: got[index].id,
        outcome: Outcome::Unjudged { at: at(due_ms), error: "no connection".into() },
    };
    let again = [settle(0, 1_000_300), settle(1, 1_000_100), settle(2, 1_000_200)];
    f.notify.settle(&ann, &again).await.unwrap();
    let next = f.notify.claim(&ann, 9).await.unwrap();
    assert_eq!(next, Claimed { deliveries: Vec::new(), next_due: Some(at(1_000_100)) });
    f.clock.advance(Duration::from_millis(200));
    assert_eq!(times(&f.notify.claim(&ann, 9).await.unwrap().deliveries), [2, 3]);
    f.clock.advance(Duration::from_millis(100));
    assert_eq!(times(&f.notify.claim(&ann, 9).await.unwrap().deliveries), [1]);
}
