//! A request cache in the memory of one process.
//!
//! Answers live in a moka cache, bounded in number and in bytes. Claims live beside it, because an evicted claim would
//! let two callers be the first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;
use tokio::sync::{Mutex, watch};

use crate::model::Timestamp;
use crate::pipeline::clock::Clock;
use crate::server::cache::{Begin, RequestCache, Ticket};
use crate::server::store::RequestKey;

/// What an entry takes beside its texts, roughly.
const ENTRY_BYTES: u64 = 64;

/// The bounds of a [`MokaCache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MokaOptions {
    /// Answers kept at most; the least used go first. As many requests may be running at a time.
    pub entries_max: u64,
    /// Bytes of these answers and their keys at most.
    pub answer_bytes_max: u64,
    /// Seconds for which an answer is kept.
    pub ttl_s: u64,
    /// Seconds after which a claim that was neither finished nor abandoned goes to a caller that
    /// waits for it: longer than any request takes.
    pub claim_timeout_s: u64,
}

impl Default for MokaOptions {
    fn default() -> Self {
        Self {
            entries_max: 100_000,
            answer_bytes_max: 64 << 20,
            ttl_s: 86_400,
            claim_timeout_s: 30,
        }
    }
}

/// A request cache for a server that has the requests to itself.
pub struct MokaCache {
    clock: Arc<dyn Clock>,
    options: MokaOptions,
    answers: Cache<RequestKey, Arc<Answered>>,
    claims: Mutex<Claims>,
}

struct Answered {
    fingerprint: [u8; 32],
    answer: Vec<u8>,
    /// Said by the injected clock, so that a test need not wait for moka's own.
    expires: Timestamp,
}

#[derive(Default)]
struct Claims {
    last_token: u64,
    running: HashMap<RequestKey, Claim>,
}

struct Claim {
    token: u64,
    fingerprint: [u8; 32],
    until: Timestamp,
    /// Dropped with the claim, which wakes those that wait.
    ended: watch::Sender<()>,
}

impl MokaCache {
    /// An empty cache.
    pub fn new(options: MokaOptions, clock: Arc<dyn Clock>) -> Self {
        // A moka cache has one bound. None of its entries weighs less than its share of the
        // bytes, so that this one holds for their number as well.
        let share = options.answer_bytes_max.div_ceil(options.entries_max.max(1));
        let answers = Cache::builder()
            .max_capacity(options.answer_bytes_max)
            .weigher(move |key: &RequestKey, answered: &Arc<Answered>| {
                let bytes = key.caller.len() + key.id.len() + answered.answer.len();
                let weight = (bytes as u64).saturating_add(ENTRY_BYTES).max(share);
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .time_to_live(Duration::from_secs(options.ttl_s))
            .build();
        Self { clock, options, answers, claims: Mutex::default() }
    }

    async fn answered(&self, key: &RequestKey) -> Option<Begin> {
        let found = self.answers.get(key).await?;
        (self.clock.now() < found.expires).then(|| Begin::Answered {
            fingerprint: found.fingerprint,
            answer: found.answer.clone(),
        })
    }

    /// One look: what to do, or the claim to wait for and until when.
    async fn look(
        &self,
        key: &RequestKey,
        fingerprint: [u8; 32],
    ) -> Result<Begin, (watch::Receiver<()>, Duration)> {
        // Held over the look at the answers: a request that is finished between that look and
        // the claim would be carried out again.
        let mut claims = self.claims.lock().await;
        if let Some(answered) = self.answered(key).await {
            return Ok(answered);
        }
        let now = self.clock.now();
        if let Some(claim) = claims.running.get(key).filter(|claim| now < claim.until) {
            if claim.fingerprint != fingerprint {
                return Ok(Begin::Differs);
            }
            return Err((claim.ended.subscribe(), claim.until.since(now)));
        }
        let full = |claims: &Claims| claims.running.len() as u64 >= self.options.entries_max;
        if full(&claims) {
            claims.running.retain(|_, claim| now < claim.until);
            if full(&claims) {
                return Ok(Begin::Unavailable);
            }
        }
        claims.last_token += 1;
        let token = claims.last_token;
        let until = now.plus(Duration::from_secs(self.options.claim_timeout_s));
        let claim = Claim { token, fingerprint, until, ended: watch::Sender::new(()) };
        claims.running.insert(key.clone(), claim);
        Ok(Begin::First(Ticket { key: key.clone(), token }))
    }
}

#[async_trait]
impl RequestCache for MokaCache {
    async fn begin(&self, key: &RequestKey, fingerprint: [u8; 32]) -> Begin {
        loop {
            match self.look(key, fingerprint).await {
                Ok(begin) => return begin,
                Err((mut ended, timeout)) => {
                    tokio::select! {
                        _ = ended.changed() => {}
                        () = self.clock.sleep(timeout) => {}
                    }
                }
            }
        }
    }

    async fn finish(&self, ticket: Ticket, fingerprint: [u8; 32], answer: Vec<u8>) {
        let expires = self.clock.now().plus(Duration::from_secs(self.options.ttl_s));
        let answered = Arc::new(Answered { fingerprint, answer, expires });
        // Even when the claim has run out: the answer is the store's, the same for everybody.
        self.answers.insert(ticket.key.clone(), answered).await;
        self.abandon(ticket).await;
    }

    async fn abandon(&self, ticket: Ticket) {
        let mut claims = self.claims.lock().await;
        if claims.running.get(&ticket.key).is_some_and(|claim| claim.token == ticket.token) {
            claims.running.remove(&ticket.key);
        }
    }

    async fn size(&self) -> u64 {
        self.answers.run_pending_tasks().await;
        self.answers.entry_count() + self.claims.lock().await.running.len() as u64
    }
}
