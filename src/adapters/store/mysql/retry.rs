//! Attempts at a transaction: how often, how long, and what is said when they end.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::MysqlStore;
use super::failure::Failure;
use crate::pipeline::store::StoreError;

impl MysqlStore {
    /// Attempts a transaction until it ends one way or the other, within the bounds of the
    /// options. `attempt` is told whether one before it may have committed, and looks that up
    /// before it does anything again.
    ///
    /// What an attempt reads to find that out must wait for the transaction in question: a row
    /// that it has locked, read for update. Then what is not there will never be.
    pub(crate) async fn attempts<T, F>(
        &self,
        attempt: impl FnMut(bool) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let limit = Duration::from_millis(self.inner.mysql.transaction_timeout_ms.max(1));
        self.attempts_within(limit, attempt).await
    }

    /// The same with another bound for each attempt.
    pub(crate) async fn attempts_within<T, F>(
        &self,
        limit: Duration,
        mut attempt: impl FnMut(bool) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let started = Instant::now();
        let (mut unknown, mut repeated) = (false, 0);
        loop {
            // On the heap: some are large, and callers nest deep.
            let attempted = Box::pin(attempt(unknown));
            let why = match tokio::time::timeout(limit, attempted).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Err(Failure::Again(why))) => why,
                Ok(Err(Failure::Unknown(why))) => {
                    unknown = true;
                    why
                }
                Err(_) => {
                    unknown = true;
                    format!("no answer within {} ms", limit.as_millis())
                }
            };
            if repeated >= self.inner.mysql.retries_max || started.elapsed() >= limit {
                let doubt = if unknown { "; whether it is in effect is not known" } else { "" };
                return Err(StoreError::Transient(format!("{why}{doubt}")));
            }
            tracing::debug!(why, repeated, "a transaction is attempted again");
            tokio::time::sleep(self.pause(repeated)).await;
            repeated += 1;
        }
    }

    /// The wait before a repetition: doubled each time, less up to half of it, so that those who
    /// collided do not collide again.
    fn pause(&self, repeated: u32) -> Duration {
        const DOUBLINGS_MAX: u32 = 8;
        let longest = self.inner.mysql.retry_backoff_ms << repeated.min(DOUBLINGS_MAX);
        Duration::from_millis(longest - rand::rng().random_range(0..=longest / 2))
    }
}
