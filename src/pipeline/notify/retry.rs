//! When a delivery is tried again: the options of the sender and the decisions they lead to.

use std::time::Duration;

use crate::model::Timestamp;
use crate::pipeline::breaker::{Breaker, BreakerOptions, BreakerState};
use crate::pipeline::clock::Random;

use super::{MailError, Outcome};

/// How deliveries are sent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SenderOptions {
    /// Deliveries claimed in one transaction, at most.
    pub batch_max: u32,
    /// Deliveries held at once, at most: being sent, or sent and not settled yet.
    pub in_flight_max: u32,
    /// How long a claim lasts, in milliseconds; after that another process may send it.
    pub lease_ms: u64,
    /// How long one attempt may take, in milliseconds; must be less than `lease_ms`.
    pub attempt_timeout_ms: u64,
    /// Seconds from each judged attempt to the next, less a jitter of up to half; there is one
    /// attempt more than delays, and after the last one the delivery is dead.
    pub retry_delays_s: Vec<u64>,
    /// Milliseconds until a delivery that no server judged is tried again while the breaker is
    /// still closed, less a jitter of up to half.
    pub unreachable_delay_ms: u64,
    /// How often to look for due deliveries when nothing says that there are, in milliseconds.
    pub poll_ms: u64,
    /// How often to look for deliveries claimed in our name whose claim we were not told of, in
    /// milliseconds; also how old such a claim is at least.
    pub reclaim_ms: u64,
    /// First wait after the store was not available, in milliseconds; it doubles each time.
    pub store_backoff_ms: u64,
    /// Longest wait after the store was not available, in milliseconds.
    pub store_backoff_ms_max: u64,
    /// How long a stop waits for attempts in flight, and then for the store, in milliseconds.
    pub drain_ms: u64,
    /// When to stop asking the mail server.
    pub breaker: BreakerOptions,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            batch_max: 10,
            in_flight_max: 64,
            lease_ms: 180_000,
            attempt_timeout_ms: 60_000,
            retry_delays_s: vec![10, 60, 600, 3_600],
            unreachable_delay_ms: 1_000,
            poll_ms: 1_000,
            reclaim_ms: 10_000,
            store_backoff_ms: 100,
            store_backoff_ms_max: 5_000,
            drain_ms: 5_000,
            breaker: BreakerOptions { failures_max: 3, open_s: 20, successes_to_close: 3 },
        }
    }
}

/// Options that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderOptionsError {
    /// Another process could claim what is still being sent.
    #[error(
        "expected attempt_timeout_ms < lease_ms, found {attempt_timeout_ms} and {lease_ms}: \
         a claim must outlast the attempt, or the mail goes out twice"
    )]
    Lease {
        /// The bound of one attempt.
        attempt_timeout_ms: u64,
        /// The length of a claim.
        lease_ms: u64,
    },
    /// An option that must be at least 1.
    #[error("expected {0} >= 1, found 0")]
    Zero(&'static str),
}

impl SenderOptions {
    /// Refuses what can't work.
    pub fn check(&self) -> Result<(), SenderOptionsError> {
        for (name, value) in [
            ("batch_max", u64::from(self.batch_max)),
            ("in_flight_max", u64::from(self.in_flight_max)),
            ("attempt_timeout_ms", self.attempt_timeout_ms),
            ("poll_ms", self.poll_ms),
            ("reclaim_ms", self.reclaim_ms),
            ("store_backoff_ms", self.store_backoff_ms),
        ] {
            if value == 0 {
                return Err(SenderOptionsError::Zero(name));
            }
        }
        if self.attempt_timeout_ms >= self.lease_ms {
            return Err(SenderOptionsError::Lease {
                attempt_timeout_ms: self.attempt_timeout_ms,
                lease_ms: self.lease_ms,
            });
        }
        Ok(())
    }

    /// How an attempt ended, given the attempts judged before it. The breaker must have been
    /// told already: while it is open, nothing is due before it lets a call through.
    pub(super) fn outcome(
        &self,
        result: Result<(), MailError>,
        attempts: u32,
        breaker: &Breaker,
        now: Timestamp,
        random: &dyn Random,
    ) -> Outcome {
        match result {
            Ok(()) => Outcome::Delivered,
            Err(error @ MailError::Permanent(_)) => Outcome::Dead { error: error.to_string() },
            Err(error @ MailError::Transient(_)) => {
                let delay = usize::try_from(attempts)
                    .ok()
                    .and_then(|attempts| self.retry_delays_s.get(attempts));
                match delay {
                    Some(delay_s) => {
                        let at = now.plus(random.jitter(Duration::from_secs(*delay_s)));
                        Outcome::Retry { at, error: error.to_string() }
                    }
                    None => Outcome::Dead {
                        error: format!(
                            "given up after {} attempts: {error}",
                            attempts.saturating_add(1)
                        ),
                    },
                }
            }
            Err(error @ MailError::Unreachable(_)) => Outcome::Unjudged {
                at: self.unjudged_at(breaker, now, random),
                error: error.to_string(),
            },
        }
    }

    /// When to try again what no server has judged.
    pub(super) fn unjudged_at(
        &self,
        breaker: &Breaker,
        now: Timestamp,
        random: &dyn Random,
    ) -> Timestamp {
        match breaker.state() {
            BreakerState::Open => now.plus(breaker.remaining(now)),
            BreakerState::Closed | BreakerState::HalfOpen => {
                now.plus(random.jitter(Duration::from_millis(self.unreachable_delay_ms)))
            }
        }
    }
}

/// Waits that double, up to a bound, until something goes well again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first_ms: u64, max_ms: u64) -> Self {
        let first = Duration::from_millis(first_ms);
        Self { first, max: Duration::from_millis(max_ms), next: first }
    }

    pub(super) fn next(&mut self, random: &dyn Random) -> Duration {
        let wait = self.next.min(self.max);
        self.next = wait.saturating_mul(2);
        random.jitter(wait)
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_refused_by_name() {
        let options = SenderOptions::default();
        assert_eq!(options.check(), Ok(()));
        let bad = SenderOptions { lease_ms: options.attempt_timeout_ms, ..options.clone() };
        let error = bad.check().unwrap_err().to_string();
        assert!(
            error.starts_with("expected attempt_timeout_ms < lease_ms, found 60000"),
            "{error}"
        );
        let bad = SenderOptions { in_flight_max: 0, ..options };
        assert_eq!(bad.check().unwrap_err().to_string(), "expected in_flight_max >= 1, found 0");
    }

    #[test]
    fn options_have_defaults_and_unknown_ones_are_refused() {
        let options: SenderOptions = serde_json::from_str(r#"{"retry_delays_s":[1]}"#).unwrap();
        assert_eq!(options, SenderOptions { retry_delays_s: vec![1], ..SenderOptions::default() });
        let error = serde_json::from_str::<SenderOptions>(r#"{"leese_ms":1}"#).unwrap_err();
        assert!(error.to_string().contains("leese_ms"), "{error}");
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        struct NoJitter;
        impl Random for NoJitter {
            fn next_u64(&self) -> u64 {
                0
            }
        }
        let mut backoff = Backoff::new(100, 300);
        let mut next = || u64::try_from(backoff.next(&NoJitter).as_millis()).unwrap();
        assert_eq!([next(), next(), next(), next()], [100, 200, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next(&NoJitter), Duration::from_millis(100));
    }
}
