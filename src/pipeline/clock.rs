//! Port: time and randomness, injected so that a seed replays a failure.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::Timestamp;

/// The wall clock.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The present instant. It may be stepped back by the host; nothing orders by it.
    fn now(&self) -> Timestamp;

    /// Waits for some time. Cancel-safe.
    async fn sleep(&self, duration: Duration);
}

/// Randomness that need not be secret: jitter, simulated prices. Tokens never come from here.
pub trait Random: Send + Sync + 'static {
    /// The next uniformly distributed number.
    fn next_u64(&self) -> u64;

    /// A duration between half of `duration` and the whole of it.
    fn jitter(&self, duration: Duration) -> Duration {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(millis - self.next_u64() % (millis / 2 + 1))
    }
}
