//! How attempts end, and whose word counts.

use std::time::Duration;

use tripline::model::{Offset, Watch};
use tripline::pipeline::notify::{Claimed, Delivery, Outcome, Settlement};

use crate::deliveries::{LEASE_MS, claimant, own};
use crate::fixture::{Fixture, at, span};

/// One delivery, claimed by the process `a`.
async fn claimed(f: &Fixture) -> (Watch, Delivery) {
    let (watch, alerts) = f.alerts(1).await;
    let mut got =
        f.notify.accept(own(f).await, span(0, 1), &alerts, &[], &claimant("a"), 9).await.unwrap();
    (watch, got.remove(0))
}

async fn settle(f: &Fixture, owner: &str, delivery: &Delivery, outcome: Outcome) {
    let settlement = Settlement { id: delivery.id, outcome };
    f.notify.settle(&claimant(owner), &[settlement]).await.unwrap();
}

fn retry(due_ms: i64) -> Outcome {
    Outcome::Retry { at: at(due_ms), error: "450 later".into() }
}

pub(crate) async fn a_delivered_one_is_done(f: &Fixture) {
    let (_, delivery) = claimed(f).await;
    for _ in 0..2 {
        settle(f, "a", &delivery, Outcome::Delivered).await;
        assert_eq!(f.hands.deliveries().await, ["delivered (attempts 1): -"]);
    }
    f.clock.advance(Duration::from_millis(LEASE_MS * 2));
    assert_eq!(f.notify.claim(&claimant("a"), 9).await.unwrap(), Claimed::default());
}

pub(crate) async fn a_refused_one_is_due_again(f: &Fixture) {
    let (_, delivery) = claimed(f).await;
    settle(f, "a", &delivery, retry(1_010_000)).await;
    let early = f.notify.claim(&claimant("a"), 9).await.unwrap();
    assert_eq!(early, Claimed { deliveries: Vec::new(), next_due: Some(at(1_010_000)) });
    f.clock.advance(Duration::from_secs(10));
    let due = f.notify.claim(&claimant("b"), 9).await.unwrap();
    assert_eq!(due.deliveries, [Delivery { attempts: 1, ..delivery }]);
    assert_eq!(f.hands.deliveries().await, ["claimed (attempts 1): 450 later"]);
}

pub(crate) async fn an_unjudged_attempt_is_not_counted(f: &Fixture) {
    let (_, delivery) = claimed(f).await;
    let error = "no connection".to_owned();
    settle(f, "a", &delivery, Outcome::Unjudged { at: at(1_000_000), error }).await;
    assert_eq!(f.hands.deliveries().await, ["pending (attempts 0): no connection"]);
    assert_eq!(f.notify.claim(&claimant("a"), 9).await.unwrap().deliveries, [delivery]);
}

pub(crate) async fn a_dead_one_stays_dead(f: &Fixture) {
    let (_, delivery) = claimed(f).await;
    settle(f, "a", &delivery, Outcome::Dead { error: "550 no such user".into() }).await;
    assert_eq!(f.hands.deliveries().await, ["dead (attempts 1): 550 no such user"]);
    f.clock.advance(Duration::from_millis(LEASE_MS * 2));
    assert_eq!(f.notify.claim(&claimant("a"), 9).await.unwrap(), Claimed::default());
}

pub(crate) async fn a_lost_claim_is_left_alone(f: &Fixture) {
    let (_, delivery) = claimed(f).await;
    f.clock.advance(Duration::from_millis(LEASE_MS));
    let taken = f.notify.claim(&claimant("b"), 9).await.unwrap();
    assert_eq!(taken.deliveries.len(), 1);
    for outcome in [
        retry(5),
        Outcome::Unjudged { at: at(5), error: "late".into() },
        Outcome::Dead { error: "late".into() },
    ] {
        settle(f, "a", &delivery, outcome).await;
        assert_eq!(f.hands.deliveries().await, ["claimed (attempts 0): -"]);
    }
    // One that was given back is nobody's, and one that is cancelled stays so.
    settle(f, "b", &delivery, retry(5)).await;
    settle(f, "b", &delivery, Outcome::Dead { error: "again".into() }).await;
    assert_eq!(f.hands.deliveries().await, ["pending (attempts 1): 450 later"]);
}

pub(crate) async fn a_delivered_one_is_always_recorded(f: &Fixture) {
    let (watch, delivery) = claimed(f).await;
    f.clock.advance(Duration::from_millis(LEASE_MS));
    f.notify.claim(&claimant("b"), 9).await.unwrap();
    settle(f, "a", &delivery, Outcome::Delivered).await;
    assert_eq!(f.hands.deliveries().await, ["delivered (attempts 1): -"]);
    // The other's failure comes too late to matter.
    settle(f, "b", &delivery, retry(5)).await;
    assert_eq!(f.hands.deliveries().await, ["delivered (attempts 1): -"]);

    f.make(&[crate::fixture::alert(&watch, 9)]).await;
    let owned = f.notify.own(crate::fixture::ZERO, Offset(0)).await.unwrap();
    let next = [crate::fixture::incoming(crate::fixture::alert(&watch, 9))];
    let step = span(owned.position.0, owned.position.0 + 1);
    let got = f.notify.accept(owned.fence, step, &next, &[], &claimant("a"), 9).await.unwrap();
    f.hands.delete_watch(&watch).await;
    settle(f, "a", &got[0], retry(5)).await;
    assert_eq!(f.hands.deliveries().await[1], "cancelled (attempts 0): watch");
    settle(f, "a", &got[0], Outcome::Delivered).await;
    assert_eq!(f.hands.deliveries().await[1], "delivered (attempts 1): -");
}
