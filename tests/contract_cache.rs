//! The contract of the request cache. An adapter runs it by one line at the end.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/services.rs"]
mod services;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use services::service;
use tripline::adapters::cache::moka::{MokaCache, MokaOptions};
use tripline::adapters::cache::redis::{RedisCache, RedisOptions};
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

const BOUNDS: MokaOptions = MokaOptions {
    entries_max: ENTRIES_MAX,
    answer_bytes_max: ANSWER_BYTES_MAX,
    ttl_s: TTL_S,
    claim_timeout_s: CLAIM_TIMEOUT_S,
};

fn moka() -> Option<Fixture> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000).unwrap()));
    let cache = Arc::new(MokaCache::new(BOUNDS, clock.clone()));
    let pass = move |by| {
        clock.advance(by);
        async {}.boxed()
    };
    Some(Fixture { cache, pass: Box::new(pass) })
}

/// A cache in the Redis of the tests, among keys of its own.
fn redis() -> Option<Fixture> {
    let url = service("redis", "TRIPLINE_TEST_REDIS")?;
    let prefix = format!("tripline-test-{}:", uuid::Uuid::new_v4());
    let cache = Arc::new(redis_cache(&url, &prefix));
    let pass = move |by: Duration| pass_in_redis(url.clone(), prefix.clone(), by).boxed();
    Some(Fixture { cache, pass: Box::new(pass) })
}

fn redis_cache(url: &str, prefix: &str) -> RedisCache {
    let (url, prefix) = (url.to_owned(), prefix.to_owned());
    let options = RedisOptions { url, prefix, timeout_ms: 2_000, pause_ms: 200 };
    RedisCache::new(options, BOUNDS).unwrap()
}

/// Lets time pass for the keys of a prefix: whatever ends does so that much earlier.
async fn pass_in_redis(url: String, prefix: String, by: Duration) {
    const PASS: &str = "
        for _, key in ipairs(redis.call('KEYS', '{' .. ARGV[1] .. '}*')) do
            if redis.call('TYPE', key).ok == 'zset' then
                for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                    redis.call('ZINCRBY', key, -ARGV[2], name)
                end
            else
                local left = redis.call('PTTL', key) - ARGV[2]
                if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end
            end
        end";
    let by_ms = u64::try_from(by.as_millis()).unwrap();
    command(&url, ::redis::cmd("EVAL").arg(PASS).arg(0).arg(prefix).arg(by_ms)).await;
}

async fn command(url: &str, command: &::redis::Cmd) {
    let client = ::redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.exec_async(&mut connection).await.unwrap();
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
                if let Some(fixture) = super::$adapter() {
                    super::$case(fixture).await;
                }
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
        }
    };
}

contract!(moka);
contract!(redis);

#[tokio::test]
async fn moka_bounds_the_bytes_of_answers() {
    answers_are_bounded_in_bytes(moka().unwrap()).await;
    eprintln!("not for redis, whose server bounds them: maxmemory");
}

/// Redis away, silent, emptied, or busy: quickly without an answer, and never wrong.
mod failures {
    use std::net::SocketAddr;
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    fn cache(addr: SocketAddr, timeout_ms: u64) -> RedisCache {
        let (url, prefix) = (format!("redis://{addr}"), "t:".to_owned());
        let options = RedisOptions { url, prefix, timeout_ms, pause_ms: 60_000 };
        RedisCache::new(options, BOUNDS).unwrap()
    }

    #[tokio::test]
    async fn a_redis_that_is_down_costs_nothing() {
        let (closed, addr) = listener().await;
        drop(closed);
        let cache = cache(addr, 5_000);
        let began = Instant::now();
        assert_eq!(cache.begin(&key("a"), ONE).await, Begin::Unavailable);
        assert_eq!(cache.size().await, 0);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_silent_redis_costs_one_timeout_and_then_nothing() {
        let (listening, addr) = listener().await;
        let cache = cache(addr, 300);
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(cache.begin(&key("a"), ONE).await, Begin::Unavailable);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        drop(listening);
    }

    #[test]
    fn a_url_with_a_slip_in_it_is_refused_without_being_shown() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _guard = runtime.enter();
        for url in ["", "http://x", "redis//user:hunter2@host"] {
            let (url, prefix) = (url.to_owned(), String::new());
            let options = RedisOptions { url, prefix, timeout_ms: 1, pause_ms: 1 };
            let error = RedisCache::new(options, BOUNDS).err().unwrap().to_string();
            assert!(error.contains("redis.url: expected redis://"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_was_emptied_begins_anew_and_a_stale_claim_takes_nothing_away() {
        let Some(url) = service("redis", "TRIPLINE_TEST_REDIS") else { return };
        let prefix = format!("tripline-test-{}:", uuid::Uuid::new_v4());
        let cache = redis_cache(&url, &prefix);
        let stale = first(&cache, "a").await;
        // Emptied, as far as these keys go.
        pass_in_redis(url.clone(), prefix, Duration::from_secs(2 * TTL_S)).await;
        assert_eq!(cache.size().await, 0);
        let ticket = first(&cache, "a").await;
        cache.abandon(stale).await;
        assert_eq!(cache.begin(&key("a"), TWO).await, Begin::Differs);
        cache.finish(ticket, ONE, b"done".to_vec()).await;
        assert_eq!(cache.begin(&key("a"), ONE).await, answered("done"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_claim_that_lands_after_its_caller_has_gone_is_taken_away() {
        let Some(url) = service("redis", "TRIPLINE_TEST_REDIS") else { return };
        let prefix = format!("tripline-test-{}:", uuid::Uuid::new_v4());
        let cache = redis_cache(&url, &prefix);
        for id in 0..20 {
            let id = id.to_string();
            // Given up at whatever moment.
            let wait = Duration::from_micros(50 * id.parse::<u64>().unwrap());
            let begin = tokio::time::timeout(wait, cache.begin(&key(&id), ONE)).await;
            if let Ok(Begin::First(ticket)) = begin {
                cache.abandon(ticket).await;
            }
            let began = Instant::now();
            let ticket = first(&cache, &id).await;
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
            cache.abandon(ticket).await;
        }
    }
}
