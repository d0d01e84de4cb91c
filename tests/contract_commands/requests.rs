//! At most once: requests and their records, imports.

use std::time::{Duration, Instant};

use futures::future::{FutureExt, join_all};
use tripline::model::Policy;
use tripline::server::store::{Command, QueryStore, Recorded, Refusal, Reply};

use crate::fixture::{Fixture, email, registration, request, spec, symbol};

/// What a repetition of a request gets.
pub(crate) fn repeated(first: &Recorded) -> Recorded {
    Recorded { again: true, view: None, ..first.clone() }
}

pub(crate) async fn two_hundred_copies_of_a_registration_make_one_account(f: Fixture) {
    let other = (f.open)().await;
    let request = request("email:ann@example.com", "r1", 1);
    let copies = (0..200).map(|copy| {
        let store = if copy % 2 == 0 { f.store.clone() } else { other.clone() };
        let (request, command) = (request.clone(), registration("ann@example.com"));
        tokio::spawn(async move { store.execute(Some(&request), &command).await.unwrap() })
    });
    let answers: Vec<_> = join_all(copies).await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(answers[0].reply, Reply::Registered { .. }), "{:?}", answers[0]);
    assert_eq!(answers.iter().filter(|answer| !answer.again).count(), 1);
    let again = repeated(&answers[0]);
    assert!(answers.iter().all(|answer| repeated(answer) == again));
    let reopened = (f.open)().await;
    let command = registration("ann@example.com");
    assert_eq!(reopened.execute(Some(&request), &command).await.unwrap(), again);
    assert_eq!(reopened.recorded(&request.key).await.unwrap(), Some(again));
}

pub(crate) async fn a_repetition_changes_nothing_and_another_fingerprint_shows(f: Fixture) {
    let user = f.register("ann@example.com").await;
    let create = Command::CreateWatch { user, spec: spec("A") };
    let first = f.store.execute(Some(&request("user:1", "r1", 1)), &create).await.unwrap();
    assert_eq!((first.fingerprint, first.again), ([1; 32], false));
    for fingerprint in [1, 2] {
        let again = request("user:1", "r1", fingerprint);
        assert_eq!(f.store.execute(Some(&again), &create).await.unwrap(), repeated(&first));
    }
    assert_eq!(f.watches(user).await.len(), 1);
    // The first answer also after what it made is gone.
    f.run(Command::DeleteUser { user }).await;
    let again = f.store.execute(Some(&request("user:1", "r1", 1)), &create).await.unwrap();
    assert_eq!(again, repeated(&first));
    assert_eq!(f.watches(user).await.len(), 0);
}

pub(crate) async fn callers_have_ids_of_their_own(f: Fixture) {
    let user = f.register("ann@example.com").await;
    let create = Command::CreateWatch { user, spec: spec("A") };
    for caller in ["user:1", "user:2"] {
        f.store.execute(Some(&request(caller, "r1", 1)), &create).await.unwrap();
    }
    assert_eq!(f.watches(user).await.len(), 2);
}

pub(crate) async fn refusals_are_recorded(f: Fixture) {
    let user = f.register("ann@example.com").await;
    let again = registration("ANN@example.com");
    let refused = request("email:ann@example.com", "r2", 1);
    let taken = Reply::Refused(Refusal::EmailTaken);
    assert_eq!(f.store.execute(Some(&refused), &again).await.unwrap().reply, taken);
    f.run(Command::DeleteUser { user }).await;
    // It would succeed by now; its answer was given.
    assert_eq!(f.store.execute(Some(&refused), &again).await.unwrap().reply, taken);
    assert!(matches!(f.run(again).await, Reply::Registered { user: id, .. } if id > user.0));
}

pub(crate) async fn a_command_runs_to_its_end_without_its_caller(f: Fixture) {
    let user = f.register("ann@example.com").await;
    let (asked, command) =
        (request("user:1", "r1", 1), Command::CreateWatch { user, spec: spec("A") });
    // The caller goes away as soon as it has asked.
    drop(f.store.execute(Some(&asked), &command).now_or_never());
    let end = async {
        while f.store.recorded(&asked.key).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), end).await.unwrap();
    assert_eq!(f.watches(user).await.len(), 1);
    assert_eq!(f.apply().await.len(), 1);
}

pub(crate) async fn an_answer_without_a_transaction_is_recorded_once(f: Fixture) {
    let request = request("user:1", "r1", 1);
    assert_eq!(f.store.recorded(&request.key).await.unwrap(), None);
    let invalid = Reply::Refused(Refusal::Invalid("expected a password".into()));
    let first = f.store.record(&request, &invalid).await.unwrap();
    assert_eq!((first.fingerprint, &first.reply, first.again), ([1; 32], &invalid, false));
    let first = repeated(&first);
    assert_eq!(f.store.record(&request, &Reply::Done).await.unwrap(), first);
    assert_eq!(f.store.recorded(&request.key).await.unwrap().as_ref(), Some(&first));
    let command = registration("ann@example.com");
    assert_eq!(f.store.execute(Some(&request), &command).await.unwrap(), first);
    assert_eq!(f.store.account(&email("ann@example.com")).await.unwrap(), None);
}

pub(crate) async fn an_import_is_loaded_once_in_order(f: Fixture) {
    let bob = f.register("bob@example.com").await;
    let old = f.create(bob, spec("B")).await;
    f.apply().await;
    let rows = [
        (email("Ann@Example.com"), spec("B")),
        (email("bob@example.com"), spec("A")),
        (email("ann@example.com"), spec("C")),
    ];
    assert_eq!(f.store.import([7; 32], &rows).await.unwrap(), Some(3));
    assert_eq!(f.store.import([7; 32], &rows).await.unwrap(), None);
    assert_eq!((f.open)().await.import([7; 32], &rows).await.unwrap(), None);
    let ann = f.store.account(&email("ann@example.com")).await.unwrap().unwrap();
    assert_eq!((ann.email.as_str(), ann.password_hash), ("Ann@Example.com", None));
    let found = |watches: Vec<tripline::model::Watch>| -> Vec<_> {
        watches.into_iter().map(|watch| (watch.spec.symbol(), watch.id)).collect()
    };
    let (anns, bobs) = (found(f.watches(ann.user).await), found(f.watches(bob).await));
    assert_eq!((anns[0].0, anns[1].0), (symbol("B"), symbol("C")));
    assert_eq!((bobs[0], bobs[1].0), ((symbol("B"), old), symbol("A")));
    assert!(old < anns[0].1 && anns[0].1 < bobs[1].1 && bobs[1].1 < anns[1].1);
    assert_eq!(f.apply().await.len(), 3);
    assert_eq!(f.store.watched_count().await.unwrap(), 3);
    // The same rows in another file are watches of their own.
    assert_eq!(f.store.import([8; 32], &rows).await.unwrap(), Some(3));
    assert_eq!(f.store.import([9; 32], &[]).await.unwrap(), Some(0));
}

pub(crate) async fn an_import_of_many_is_fast(f: Fixture) {
    let rows: Vec<_> = (0..5_000)
        .map(|row| {
            let policy = Policy::Once;
            let watch = spec(&format!("S{}", row % 700));
            let watch =
                tripline::model::WatchSpec::new(watch.symbol(), watch.low(), None, policy, row);
            (email(&format!("user-{}@example.com", row / 2)), watch.unwrap())
        })
        .collect();
    let started = Instant::now();
    assert_eq!(f.store.import([1; 32], &rows).await.unwrap(), Some(5_000));
    let took = started.elapsed();
    assert!(took.as_secs() < 5, "expected well under 5 s, took {took:?}");
    let last = f.store.account(&email("user-2499@example.com")).await.unwrap().unwrap();
    let views = QueryStore::watches(&*f.store, last.user, None, 10).await.unwrap();
    let cooldowns: Vec<_> = views.iter().map(|view| view.watch.spec.cooldown_s()).collect();
    assert_eq!(cooldowns, [4_998, 4_999]);
    assert_eq!(f.store.watched_count().await.unwrap(), 700);
}
