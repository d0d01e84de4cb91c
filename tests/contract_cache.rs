//! The contract of the request cache. An adapter runs it by one line at the end.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use tripline::adapters::cache::moka::{MokaCache, MokaOptions};
use tripline::adapters::clock::ManualClock;
use tripline::model::Timestamp;
use tripline::server::cache::{Begin, RequestCache, Ticket};
use tripline::server::store::RequestKey;

const ENTRIES_MAX: u64 = 64;
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const TTL_S: u64 = 600;
const CLAIM_TIMEOUT_S: u64 = 30;

/// A fresh cache with the bounds above.
struct Fixture {
    cache: Arc<dyn RequestCache>,
    /// Lets time pass for the cache.
    pass: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

fn moka() -> Fixture {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000).unwrap()));
    let options = MokaOptions {
        entries_max: ENTRIES_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
        ttl_s: TTL_S,
        claim_timeout_s: CLAIM_TIMEOUT_S,
    };
    let cache = Arc::new(MokaCache::new(options, clock.clone()));
    let pass = move |by| {
        clock.advance(by);
        async {}.boxed()
    };
    Fixture { cache, pass: Box::new(pass) }
}

fn key(id: &str) -> RequestKey {
    RequestKey { caller: "user:1".into(), id: id.into() }
}

const ONE: [u8; 32] = [1; 32];
const TWO: [u8; 32] = [2; 32];

async fn first(cache: &dyn RequestCache, id: &str) -> Ticket {
    match cache.begin(&key(id), ONE).await {
        Begin::First(ticket) => ticket,
        other => panic!("expected to be the first, found {other:?}"),
    }
}

fn answered(text: &str) -> Begin {
    Begin::Answered { fingerprint: ONE, answer: text.into() }
}

/// Starts `count` callers and lets them run.
async fn callers(
    cache: &Arc<dyn RequestCache>,
    id: &str,
    count: usize,
) -> Vec<tokio::task::JoinHandle<Begin>> {
    let spawn = |_| {
        let (cache, key) = (cache.clone(), key(id));
        tokio::spawn(async move { cache.begin(&key, ONE).await })
    };
    let callers: Vec<_> = (0..count).map(spawn).collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    callers
}

async fn one_of_200_is_the_first(Fixture { cache, .. }: Fixture) {
    let asks = (0..200).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let begin = cache.begin(&key("a"), ONE).await;
            if let Begin::First(ticket) = &begin {
                tokio::task::yield_now().await;
                cache.finish(ticket.clone(), ONE, b"done".to_vec()).await;
            }
            begin
        })
    });
    let begins: Vec<Begin> = join_all(asks).await.into_iter().map(Result::unwrap).collect();
    let firsts = begins.iter().filter(|begin| matches!(begin, Begin::First(_))).count();
    let answers = begins.iter().filter(|begin| **begin == answered("done")).count();
    assert_eq!((firsts, answers), (1, 199));
    assert_eq!(cache.begin(&key("a"), ONE).await, answered("done"));
}

async fn waiters_get_the_answer(Fixture { cache, .. }: Fixture) {
    let ticket = first(&*cache, "a").await;
    let waiting = callers(&cache, "a", 20).await;
    assert!(waiting.iter().all(|caller| !caller.is_finished()));
    cache.finish(ticket, ONE, b"done".to_vec()).await;
    for caller in waiting {
        assert_eq!(caller.await.unwrap(), answered("done"));
    }
}

async fn an_abandoned_claim_goes_to_one_waiter(Fixture { cache, .. }: Fixture) {
    let mut ticket = first(&*cache, "a").await;
    let mut waiting = callers(&cache, "a", 20).await;
    while !waiting.is_empty() {
        cache.abandon(ticket).await;
        let (begin, _, rest) = futures::future::select_all(waiting).await;
        waiting = rest;
        ticket = match begin.unwrap() {
            Begin::First(ticket) => ticket,
            other => panic!("expected to be the first, found {other:?}"),
        };
        assert!(waiting.iter().all(|caller| !caller.is_finished()));
    }
}

async fn a_claim_whose_holder_vanished_runs_out(Fixture { cache, pass }: Fixture) {
    let stale = first(&*cache, "a").await;
    let waiting = callers(&cache, "a", 1).await;
    pass(Duration::from_secs(CLAIM_TIMEOUT_S)).await;
    for caller in waiting {
        let Begin::First(ticket) = caller.await.unwrap() else { panic!("expected the claim") };
        assert_ne!(ticket.token, stale.token);
        // A claim that has run out can't take the later one away.
        cache.abandon(stale.clone()).await;
        let mut later = callers(&cache, "a", 1).await;
        assert!(!later[0].is_finished());
        cache.finish(ticket, ONE, b"done".to_vec()).await;
        assert_eq!(later.remove(0).await.unwrap(), answered("done"));
    }
}

async fn a_waiter_that_gives_up_changes_nothing(Fixture { cache, .. }: Fixture) {
    let ticket = first(&*cache, "a").await;
    let mut waiting = callers(&cache, "a", 2).await;
    waiting.remove(0).abort();
    cache.finish(ticket, ONE, b"done".to_vec()).await;
    assert_eq!(waiting.remove(0).await.unwrap(), answered("done"));
}

async fn another_fingerprint_is_told_at_once(Fixture { cache, .. }: Fixture) {
    let ticket = first(&*cache, "a").await;
    assert_eq!(cache.begin(&key("a"), TWO).await, Begin::Differs);
    cache.finish(ticket, ONE, b"done".to_vec()).await;
    assert_eq!(cache.begin(&key("a"), TWO).await, answered("done"));
}

async fn requests_do_not_hinder_each_other(Fixture { cache, .. }: Fixture) {
    first(&*cache, "a").await;
    first(&*cache, "b").await;
    let elsewhere = RequestKey { caller: "user:2".into(), id: "a".into() };
    assert!(matches!(cache.begin(&elsewhere, TWO).await, Begin::First(_)));
    assert_eq!(cache.size().await, 3);
}

async fn answers_expire(Fixture { cache, pass }: Fixture) {
    let ticket = first(&*cache, "a").await;
    cache.finish(ticket, ONE, b"done".to_vec()).await;
    pass(Duration::from_secs(TTL_S - 1)).await;
    assert_eq!(cache.begin(&key("a"), ONE).await, answered("done"));
    pass(Duration::from_secs(1)).await;
    first(&*cache, "a").await;
}

async fn entries_are_bounded(Fixture { cache, pass }: Fixture) {
    for id in 0..4 * ENTRIES_MAX {
        let ticket = first(&*cache, &format!("done-{id}")).await;
        cache.finish(ticket, ONE, b"done".to_vec()).await;
    }
    assert!(cache.size().await <= ENTRIES_MAX, "{}", cache.size().await);
    for id in 0..ENTRIES_MAX {
        first(&*cache, &format!("running-{id}")).await;
    }
    assert_eq!(cache.begin(&key("one-more"), ONE).await, Begin::Unavailable);
    pass(Duration::from_secs(CLAIM_TIMEOUT_S)).await;
    first(&*cache, "one-more").await;
}

async fn answers_are_bounded_in_bytes(Fixture { cache, .. }: Fixture) {
    let quarter = usize::try_from(ANSWER_BYTES_MAX / 4).unwrap();
    for id in 0..20 {
        let ticket = first(&*cache, &id.to_string()).await;
        cache.finish(ticket, ONE, vec![b'x'; quarter]).await;
    }
    assert!(cache.size().await <= 4, "{}", cache.size().await);
}

macro_rules! contract {
    ($adapter:ident: $($case:ident)*) => {
        mod $adapter {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::$adapter()).await;
            })*
        }
    };
    ($adapter:ident) => {
        contract! { $adapter:
            one_of_200_is_the_first
            waiters_get_the_answer
            an_abandoned_claim_goes_to_one_waiter
            a_claim_whose_holder_vanished_runs_out
            a_waiter_that_gives_up_changes_nothing
            another_fingerprint_is_told_at_once
            requests_do_not_hinder_each_other
            answers_expire
            entries_are_bounded
            answers_are_bounded_in_bytes
        }
    };
}

contract!(moka);
