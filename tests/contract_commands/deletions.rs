//! What deleting a watch or an account takes along, and what stays.

use tripline::pipeline::notify::Outcome;
use tripline::server::store::{Command, DeliveryState, QueryStore, Reply, WatchPatch, WatchRef};

use crate::fixture::{Fixture, HASH, at, email, price, spec, symbol};

pub(crate) async fn a_deleted_watch_is_gone_and_cancels_what_is_undelivered(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let id = f.create(ann, spec("A")).await;
    let kept = f.create(ann, spec("A")).await;
    let (watch, other) = (f.watch(ann, id).await, f.watch(ann, kept).await);
    f.deliver(&watch, at(1), Outcome::Delivered).await;
    let alerts =
        [f.tell(&watch, at(2)).await, f.tell(&watch, at(3)).await, f.tell(&watch, at(4)).await];
    let others = f.tell(&other, at(5)).await;
    let claimed = f.accept(&alerts, &[], 2).await;
    f.accept(&[others], &[], 0).await;
    f.apply().await;

    assert_eq!(f.run(Command::DeleteWatch { user: ann, watch: id }).await, Reply::Done);

    assert_eq!(f.store.watch(ann, WatchRef::Id(id)).await.unwrap(), None);
    assert_eq!(f.apply().await, [(symbol("A"), Some(id))]);
    for alert in &alerts {
        assert_eq!(f.state(alert).await, Some(DeliveryState::Cancelled));
    }
    let due = f.store.claim(&f.claimant(), 10).await.unwrap().deliveries;
    assert_eq!(due.iter().map(|delivery| delivery.alert).collect::<Vec<_>>(), [others]);
    // One that was claimed before may still arrive, and is recorded so.
    f.settle(claimed[0].id, Outcome::Delivered).await;
    f.settle(claimed[1].id, Outcome::Retry { at: at(9), error: "busy".into() }).await;
    assert_eq!(f.state(&claimed[0].alert).await, Some(DeliveryState::Delivered));
    assert_eq!(f.state(&claimed[1].alert).await, Some(DeliveryState::Cancelled));
    // What was told stays listed.
    assert_eq!(f.store.alerts(ann, None, 10).await.unwrap().len(), 5);
}

pub(crate) async fn a_deleted_user_is_gone_with_all_watches(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let bob = f.register("bob@example.com").await;
    let ids = [
        f.create(ann, spec("A")).await,
        f.create(ann, spec("B")).await,
        f.create(ann, spec("A")).await,
    ];
    let pause = WatchPatch { paused: Some(true), ..WatchPatch::default() };
    f.change(ann, ids[2], pause).await;
    let bobs = f.create(bob, spec("B")).await;
    f.store.open_session(ann, HASH, [1; 32], at(9_000_000_000)).await.unwrap();
    let alert = f.tell(&f.watch(ann, ids[0]).await, at(1)).await;
    let bobs_alert = f.tell(&f.watch(bob, bobs).await, at(2)).await;
    f.accept(&[alert, bobs_alert], &[], 0).await;
    f.apply().await;

    assert_eq!(f.run(Command::DeleteUser { user: ann }).await, Reply::Done);

    assert_eq!(f.store.account(&email("ann@example.com")).await.unwrap(), None);
    assert_eq!(f.store.session([1; 32]).await.unwrap(), None);
    assert_eq!(f.watches(ann).await, []);
    assert_eq!(f.watches(bob).await.len(), 1);
    let mut gone = f.apply().await;
    gone.sort();
    let expected = [("A", ids[0]), ("A", ids[2]), ("B", ids[1])];
    assert_eq!(gone, expected.map(|(name, id)| (symbol(name), Some(id))));
    assert_eq!(f.store.watched().await.unwrap(), [symbol("B")]);
    assert_eq!(f.store.watched_count().await.unwrap(), 1);
    assert_eq!(f.state(&alert).await, Some(DeliveryState::Cancelled));
    assert_eq!(f.state(&bobs_alert).await, Some(DeliveryState::Pending));
    let due = f.store.claim(&f.claimant(), 10).await.unwrap().deliveries;
    assert_eq!(due.len(), 1);
    // The address is free again, for an account that is another one.
    assert!(f.register("ann@example.com").await > bob);
}

pub(crate) async fn prices_go_with_the_last_watch_and_the_last_tick_stays(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let (first, second) = (f.create(ann, spec("A")).await, f.create(ann, spec("A")).await);
    f.tick("A", 1, at(1), "5").await;
    let history = async || f.store.history(symbol("A"), 10).await.unwrap().len();

    f.run(Command::DeleteWatch { user: ann, watch: first }).await;
    assert_eq!(history().await, 1);
    let elsewhere = WatchPatch { symbol: Some(symbol("B")), ..WatchPatch::default() };
    f.change(ann, second, elsewhere).await;
    assert_eq!(history().await, 0);
    let quote = f.store.quote(symbol("A")).await.unwrap().unwrap();
    assert_eq!((quote.time, quote.price), (at(1), price("5")));

    // A paused watch is a watch.
    f.tick("B", 1, at(1), "5").await;
    let pause = WatchPatch { paused: Some(true), ..WatchPatch::default() };
    f.change(ann, second, pause).await;
    assert_eq!(f.store.watched().await.unwrap(), []);
    assert_eq!(f.store.watched_count().await.unwrap(), 1);
    assert_eq!(f.store.history(symbol("B"), 10).await.unwrap().len(), 1);
    f.run(Command::DeleteUser { user: ann }).await;
    assert_eq!(f.store.history(symbol("B"), 10).await.unwrap().len(), 0);
    assert_eq!(f.store.watched_count().await.unwrap(), 0);
    assert_eq!(QueryStore::watches(&*f.store, ann, None, 10).await.unwrap(), []);
}
