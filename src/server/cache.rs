//! Port: answers of requests that were or are being carried out, so that a repetition is quick.
//!
//! The guarantee of at most once is the store's: this only makes repetitions cheap and lets them
//! wait for the first.

use async_trait::async_trait;

use super::store::RequestKey;

/// The right to carry a request out and to say its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The request.
    pub key: RequestKey,
    /// Tells this claim from a later one of the same request.
    pub token: u64,
}

/// What a caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Carry it out, then [`finish`](RequestCache::finish) or [`abandon`](RequestCache::abandon).
    First(Ticket),
    /// Return this, if the fingerprint is the same.
    Answered {
        /// The fingerprint that the first caller gave.
        fingerprint: [u8; 32],
        /// The answer that the first caller gave.
        answer: Vec<u8>,
    },
    /// The same id is being carried out with another fingerprint.
    Differs,
    /// The cache cannot be reached: carry it out, the store decides.
    Unavailable,
}

/// The request cache.
#[async_trait]
pub trait RequestCache: Send + Sync + 'static {
    /// Claims a request, or waits for the answer of whoever has claimed it; of any number of
    /// callers exactly one is `First` at a time. When the first abandons it or vanishes, one of
    /// those that wait becomes the first. Cancel-safe.
    async fn begin(&self, key: &RequestKey, fingerprint: [u8; 32]) -> Begin;

    /// Gives the answer to all that wait and to those that come until it expires.
    async fn finish(&self, ticket: Ticket, fingerprint: [u8; 32], answer: Vec<u8>);

    /// Gives the claim up without an answer: a transient failure.
    async fn abandon(&self, ticket: Ticket);

    /// How many entries there are.
    async fn size(&self) -> u64;
}
