//! What commands do to watches: versions, pending changes, refusals.

use tripline::model::{Decimal, Policy, PolicyKind, Version, Watch, WatchId};
use tripline::server::store::{Command, PolicyPatch, Refusal, Reply, WatchPatch, WatchRef};

use crate::fixture::{Fixture, WATCHES_MAX, at, price, spec, symbol};

fn versions(watch: &Watch) -> (u32, u32, u32) {
    (watch.version.0, watch.fresh_since.0, watch.cooldown_since.0)
}

pub(crate) async fn a_new_watch_is_at_its_first_version_and_pending(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let id = f.create(ann, spec("A")).await;
    let watch = f.watch(ann, id).await;
    assert_eq!(versions(&watch), (1, 1, 1));
    assert_eq!((watch.user, watch.paused, watch.spec), (ann, false, spec("A")));
    assert_eq!(f.apply().await, [(symbol("A"), Some(id))]);
    assert_eq!(f.apply().await, []);
}

/// Each names another part, and all were decided on before any of them was carried out.
pub(crate) async fn concurrent_changes_of_parts_all_take_effect(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let id = f.create(ann, spec("A")).await;
    let none = WatchPatch::default();
    let policy = |policy| WatchPatch { policy, ..none };
    let step = PolicyPatch { step: Some(Some(price("2.5"))), ..PolicyPatch::default() };
    let kind = PolicyPatch { kind: Some(PolicyKind::Step), ..PolicyPatch::default() };
    f.change(ann, id, policy(kind)).await;
    let patches = [
        policy(step),
        policy(kind),
        WatchPatch { low: Some(None), ..none },
        WatchPatch { high: Some(Some(price("300"))), ..none },
        WatchPatch { cooldown_s: Some(60), ..none },
        WatchPatch { paused: Some(true), ..none },
    ];
    let changes = patches.map(|patch| f.change(ann, id, patch));
    futures::future::join_all(changes).await;
    let Watch { paused, spec, .. } = f.watch(ann, id).await;
    assert_eq!((spec.low(), spec.high()), (None, Some(price("300"))));
    assert_eq!((spec.cooldown_s(), paused), (60, true));
    assert_eq!(spec.policy(), Policy::Step { step: price("2.5") });
    // What a policy does not use is not kept for the time when it is another.
    let once = PolicyPatch { kind: Some(PolicyKind::Once), ..step };
    f.change(ann, id, policy(once)).await;
    f.change(ann, id, policy(kind)).await;
    let found = f.watch(ann, id).await.spec.policy();
    assert_eq!(found, Policy::Step { step: Policy::STEP_DEFAULT });
}

pub(crate) async fn versions_follow_the_rules(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let id = f.create(ann, spec("A")).await;
    let none = WatchPatch::default();
    let step = |text| Policy::Step { step: price(text) }.into();
    let wide = Policy::Crossing { hysteresis: "1".parse().unwrap() };
    let narrow = Policy::Crossing { hysteresis: Decimal::ZERO };
    let cases = [
        // Equal values are no change.
        (none, (1, 1, 1)),
        (WatchPatch { low: Some(Some(price("100"))), paused: Some(false), ..none }, (1, 1, 1)),
        (WatchPatch { symbol: Some(symbol("a")), policy: narrow.into(), ..none }, (1, 1, 1)),
        // A cooldown alone keeps the state, as do pausing and resuming.
        (WatchPatch { cooldown_s: Some(60), ..none }, (2, 1, 1)),
        (WatchPatch { paused: Some(true), ..none }, (3, 1, 1)),
        (WatchPatch { paused: Some(true), ..none }, (3, 1, 1)),
        (WatchPatch { paused: Some(false), cooldown_s: Some(30), ..none }, (4, 1, 1)),
        // Thresholds, symbol or policy start it afresh.
        (WatchPatch { high: Some(None), ..none }, (5, 5, 5)),
        (WatchPatch { symbol: Some(symbol("B")), ..none }, (6, 6, 6)),
        (WatchPatch { policy: wide.into(), ..none }, (7, 7, 7)),
        (WatchPatch { policy: step("1"), ..none }, (8, 8, 8)),
        // A step watch keeps the pair last told while symbol, policy and step stay.
        (WatchPatch { low: Some(None), ..none }, (9, 8, 9)),
        (WatchPatch { cooldown_s: Some(5), ..none }, (10, 8, 9)),
        (WatchPatch { high: Some(Some(price("9"))), paused: Some(true), ..none }, (11, 8, 11)),
        (WatchPatch { policy: step("2"), ..none }, (12, 12, 12)),
        (WatchPatch { symbol: Some(symbol("A")), ..none }, (13, 13, 13)),
    ];
    f.apply().await;
    let mut before = 1;
    for (patch, expected) in cases {
        assert_eq!(f.change(ann, id, patch).await, Reply::Watch { id: id.0 });
        assert_eq!(versions(&f.watch(ann, id).await), expected, "{patch:?}");
        // What raised the version is pending, and nothing else.
        assert_eq!(f.apply().await.is_empty(), expected.0 == before, "{patch:?}");
        before = expected.0;
    }
}

pub(crate) async fn another_symbol_is_pending_for_both(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let id = f.create(ann, spec("A")).await;
    f.apply().await;
    for name in ["B", "C", "D", "A"] {
        let from = f.watch(ann, id).await.spec.symbol();
        f.change(ann, id, WatchPatch { symbol: Some(symbol(name)), ..WatchPatch::default() }).await;
        let mut pending = f.apply().await;
        pending.sort();
        let mut expected = [(from, Some(id)), (symbol(name), Some(id))];
        expected.sort();
        assert_eq!(pending, expected);
        assert_eq!(f.store.watched().await.unwrap(), [symbol(name)]);
    }
}

pub(crate) async fn refused_changes_change_nothing(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let bob = f.register("bob@example.com").await;
    let id = f.create(ann, spec("A")).await;
    f.apply().await;
    let patch = WatchPatch { low: Some(Some(price("200"))), ..WatchPatch::default() };
    let Reply::Refused(Refusal::Thresholds(why)) = f.change(ann, id, patch).await else {
        panic!("expected a refusal of the thresholds");
    };
    assert_eq!(why, "expected low < high, found low 200 and high 200");
    let patch = WatchPatch { cooldown_s: Some(u64::MAX), ..WatchPatch::default() };
    assert!(matches!(f.change(ann, id, patch).await, Reply::Refused(Refusal::Invalid(_))));
    let patch = WatchPatch { paused: Some(true), ..WatchPatch::default() };
    let change = |user, watch| Command::ChangeWatch { user, watch, patch, or_create: None };
    let delete = |user, watch| Command::DeleteWatch { user, watch };
    let gone = f.register("gone@example.com").await;
    f.run(Command::DeleteUser { user: gone }).await;
    for (command, expected) in [
        (change(bob, WatchRef::Id(id)), Refusal::UnknownWatch),
        (change(ann, WatchRef::Id(WatchId(id.0 + 1))), Refusal::UnknownWatch),
        (change(bob, WatchRef::Oldest), Refusal::NoWatch),
        (change(gone, WatchRef::Oldest), Refusal::UnknownUser),
        (change(gone, WatchRef::Id(id)), Refusal::UnknownUser),
        (delete(bob, id), Refusal::UnknownWatch),
        (delete(gone, id), Refusal::UnknownUser),
        (Command::CreateWatch { user: gone, spec: spec("A") }, Refusal::UnknownUser),
        (Command::DeleteUser { user: gone }, Refusal::UnknownUser),
    ] {
        assert_eq!(f.refusal(command.clone()).await, expected, "{command:?}");
    }
    assert_eq!(versions(&f.watch(ann, id).await), (1, 1, 1));
    for _ in 1..WATCHES_MAX {
        f.create(ann, spec("A")).await;
    }
    let one_more = Command::CreateWatch { user: ann, spec: spec("A") };
    assert_eq!(f.refusal(one_more).await, Refusal::TooManyWatches(WATCHES_MAX));
    assert_eq!(f.watches(ann).await.len(), WATCHES_MAX as usize);
    assert_eq!(f.apply().await.len(), WATCHES_MAX as usize - 1);
}

pub(crate) async fn a_missing_watch_is_created_where_asked(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let patch = WatchPatch { symbol: Some(symbol("B")), ..WatchPatch::default() };
    let update = Command::ChangeWatch {
        user: ann,
        watch: WatchRef::Oldest,
        patch,
        or_create: Some(spec("B")),
    };
    let Reply::Watch { id } = f.run(update.clone()).await else { panic!("expected a watch") };
    assert_eq!(f.watches(ann).await[0].spec, spec("B"));
    f.create(ann, spec("C")).await;
    // The oldest is the one with the smallest id; equal values are no change.
    assert_eq!(f.run(update).await, Reply::Watch { id });
    let watches = f.watches(ann).await;
    assert_eq!((watches.len(), watches[0].version), (2, Version::FIRST));
    assert_eq!(f.store.watch(ann, WatchRef::Oldest).await.unwrap().unwrap().watch.id.0, id);
}

pub(crate) async fn resets_are_for_known_symbols(f: Fixture) {
    let reset = |name| Command::ResetSymbol { symbol: symbol(name) };
    assert_eq!(f.refusal(reset("A")).await, Refusal::UnknownSymbol);
    let ann = f.register("ann@example.com").await;
    f.create(ann, spec("A")).await;
    f.tick("B", 1, at(1), "5").await;
    f.apply().await;
    for name in ["A", "B"] {
        assert_eq!(f.run(reset(name)).await, Reply::Done);
        assert_eq!(f.apply().await, [(symbol(name), None)]);
    }
}
