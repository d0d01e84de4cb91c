//! A request cache in Redis, shared by all servers of a store.
//!
//! A request has one entry: a claim, with the token of whoever carries it out, or the answer.
//! Claims and answers are listed in a sorted set each, by when they end, which bounds and counts
//! them. Each step is one script, so that it is done at once or not at all. Whatever Redis loses,
//! refuses or delays costs time only: the store keeps every request to one execution.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, FromRedisValue, RedisError, Script, ScriptInvocation};
use serde::Deserialize;

use super::moka::MokaOptions;
use crate::server::cache::{Begin, RequestCache, Ticket};
use crate::server::store::RequestKey;

/// Begins a request: the entry's content, or nil for who is the first now.
const BEGIN: &str = include_str!("redis/begin.lua");
/// Puts the answer in place of the claim.
const FINISH: &str = include_str!("redis/finish.lua");
/// Takes a claim away, if it is still this one.
const ABANDON: &str = include_str!("redis/abandon.lua");
/// Counts what has not ended.
const SIZE: &str = include_str!("redis/size.lua");

/// First and longest wait between two looks at a claim of somebody else.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(100);

/// How Redis is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisOptions {
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://` for TLS; empty for none.
    #[serde(default)]
    pub url: String,
    /// What the name of every key begins with.
    #[serde(default)]
    pub prefix: String,
    /// How long one step may take, in milliseconds, the way included.
    pub timeout_ms: u64,
    /// How long Redis is left alone after a failure, in milliseconds.
    pub pause_ms: u64,
}

/// A URL that names no Redis server.
#[derive(Debug, thiserror::Error)]
#[error(
    "redis.url: expected redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE] or rediss://, found {0}"
)]
pub struct RedisUrlError(String);

/// A request cache in Redis. Clones share one connection.
#[derive(Clone)]
pub struct RedisCache {
    inner: Arc<Inner>,
}

struct Inner {
    connection: ConnectionManager,
    options: RedisOptions,
    bounds: MokaOptions,
    scripts: Scripts,
    began: Instant,
    /// Milliseconds after `began` until which Redis is left alone.
    paused_until_ms: AtomicU64,
}

struct Scripts {
    begin: Script,
    finish: Script,
    abandon: Script,
    size: Script,
}

impl RedisCache {
    /// A cache that connects when it is first used. Of `bounds`, the bytes of the answers are
    /// left to the Redis server and its `maxmemory`. To be called within the runtime.
    pub fn new(options: RedisOptions, bounds: MokaOptions) -> Result<Self, RedisUrlError> {
        // What was found may hold a password.
        let bad =
            |error: RedisError| RedisUrlError(format!("something else ({})", error.category()));
        let timeout = Some(Duration::from_millis(options.timeout_ms));
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(timeout)
            .set_response_timeout(timeout);
        let client = Client::open(options.url.as_str()).map_err(bad)?;
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(bad)?;
        let scripts = Scripts {
            begin: Script::new(BEGIN),
            finish: Script::new(FINISH),
            abandon: Script::new(ABANDON),
            size: Script::new(SIZE),
        };
        let (began, paused_until_ms) = (Instant::now(), AtomicU64::new(0));
        let inner = Inner { connection, options, bounds, scripts, began, paused_until_ms };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name of an entry. The braces keep everything on one node of a cluster.
    fn name(&self, key: &RequestKey) -> String {
        // The length keeps a caller's end and an id's beginning apart.
        format!("{{{}}}{}:{}:{}", self.inner.options.prefix, key.caller.len(), key.caller, key.id)
    }

    fn list(&self, what: &str) -> String {
        format!("{{{}}}{what}", self.inner.options.prefix)
    }

    fn claims_and_answers(&self, call: &mut ScriptInvocation<'_>) {
        call.key(self.list("claims")).key(self.list("answers"));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.inner.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks Redis, unless it is left alone at present. `None` if there is no answer.
    async fn ask<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Option<T> {
        if self.now_ms() < self.inner.paused_until_ms.load(Ordering::Relaxed) {
            return None;
        }
        self.ask_now(call).await
    }

    async fn ask_now<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Option<T> {
        let RedisOptions { timeout_ms, pause_ms, .. } = self.inner.options;
        let attempt = async || call.invoke_async(&mut self.inner.connection.clone()).await;
        let asked = async {
            match attempt().await {
                // The connection was lost while nobody looked: there is another one now.
                Err(error) if error.is_io_error() && !error.is_timeout() => attempt().await,
                other => other,
            }
        };
        let reason = match tokio::time::timeout(Duration::from_millis(timeout_ms), asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {timeout_ms} ms"),
        };
        let until = self.now_ms().saturating_add(pause_ms);
        if self.inner.paused_until_ms.fetch_max(until, Ordering::Relaxed) < self.now_ms() {
            tracing::warn!("the request cache is left alone for {pause_ms} ms: {reason}");
        }
        None
    }

    /// One look: what to do, or nothing while somebody else carries the request out.
    async fn look(&self, key: &RequestKey, fingerprint: [u8; 32], token: u64) -> Option<Begin> {
        let inner = &self.inner;
        let life_ms = inner.bounds.claim_timeout_s.saturating_mul(1_000).max(1);
        let mut call = inner.scripts.begin.prepare_invoke();
        call.key(self.name(key));
        self.claims_and_answers(&mut call);
        call.arg(claim(token, fingerprint)).arg(life_ms).arg(inner.bounds.entries_max);
        let Some(found) = self.ask::<Option<Vec<u8>>>(&call).await else {
            return Some(Begin::Unavailable);
        };
        let first = || Some(Begin::First(Ticket { key: key.clone(), token }));
        let Some(found) = found else { return first() };
        match Entry::read(&found) {
            Some(Entry::Answer { fingerprint, answer }) => {
                Some(Begin::Answered { fingerprint, answer: answer.to_vec() })
            }
            // An earlier attempt of this very call, whose answer was lost.
            Some(Entry::Claim { token: held, .. }) if held == token => first(),
            Some(Entry::Claim { fingerprint: held, .. }) if held != fingerprint => {
                Some(Begin::Differs)
            }
            Some(Entry::Claim { .. }) => None,
            // As many claims as there may be, or what none of us wrote.
            None => Some(Begin::Unavailable),
        }
    }

    async fn give_up(&self, key: &RequestKey, token: u64) {
        let mut call = self.inner.scripts.abandon.prepare_invoke();
        call.key(self.name(key)).key(self.list("claims")).arg(&claim(token, [0; 32])[..9]);
        // Not even while Redis is left alone is this left out: it spares others a wait.
        self.ask_now::<()>(&call).await;
    }
}

/// The content of an entry.
enum Entry<'a> {
    Claim { token: u64, fingerprint: [u8; 32] },
    Answer { fingerprint: [u8; 32], answer: &'a [u8] },
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first()? {
            (b'C', rest) => {
                let (token, rest) = rest.split_first_chunk()?;
                let token = u64::from_be_bytes(*token);
                Some(Self::Claim { token, fingerprint: rest.try_into().ok()? })
            }
            (b'A', rest) => {
                let (fingerprint, answer) = rest.split_first_chunk()?;
                Some(Self::Answer { fingerprint: *fingerprint, answer })
            }
            _ => None,
        }
    }
}

/// A claim as an entry holds it: `C`, the token, the fingerprint.
fn claim(token: u64, fingerprint: [u8; 32]) -> Vec<u8> {
    [&b"C"[..], &token.to_be_bytes(), &fingerprint].concat()
}

/// Takes a claim away that may have been made, or may still be, for a caller that has gone.
struct Orphan {
    cache: RedisCache,
    key: RequestKey,
    token: u64,
    is_wanted: bool,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if self.is_wanted {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (cache, key, token) = (self.cache.clone(), self.key.clone(), self.token);
        // Behind the claim on the same connection, so that it comes after it.
        runtime.spawn(async move { cache.give_up(&key, token).await });
    }
}

#[async_trait]
impl RequestCache for RedisCache {
    async fn begin(&self, key: &RequestKey, fingerprint: [u8; 32]) -> Begin {
        let token = rand::random();
        let mut orphan = Orphan { cache: self.clone(), key: key.clone(), token, is_wanted: false };
        let began = Instant::now();
        // A claim that nobody ends goes to somebody who waits for it, who may need as long.
        let patience = Duration::from_secs(self.inner.bounds.claim_timeout_s.saturating_mul(2));
        let mut pause = LOOK_FIRST;
        loop {
            match self.look(key, fingerprint, token).await {
                Some(Begin::Unavailable) => return Begin::Unavailable,
                Some(begin) => {
                    orphan.is_wanted = true;
                    return begin;
                }
                None if began.elapsed() > patience => return Begin::Unavailable,
                None => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    async fn finish(&self, ticket: Ticket, fingerprint: [u8; 32], answer: Vec<u8>) {
        let inner = &self.inner;
        let life_ms = inner.bounds.ttl_s.saturating_mul(1_000).max(1);
        let mut call = inner.scripts.finish.prepare_invoke();
        call.key(self.name(&ticket.key));
        self.claims_and_answers(&mut call);
        // Even when the claim has run out: the answer is the store's, the same for everybody.
        call.arg([&b"A"[..], &fingerprint, &answer].concat());
        call.arg(life_ms).arg(inner.bounds.entries_max);
        self.ask::<()>(&call).await;
    }

    async fn abandon(&self, ticket: Ticket) {
        self.give_up(&ticket.key, ticket.token).await;
    }

    async fn size(&self) -> u64 {
        let mut call = self.inner.scripts.size.prepare_invoke();
        self.claims_and_answers(&mut call);
        self.ask(&call).await.unwrap_or(0)
    }
}
