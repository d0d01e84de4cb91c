//! A circuit breaker: stops asking a peer that fails, and tries again after a while.
//!
//! A plain state machine without a clock of its own: callers pass the time.

use std::time::Duration;

use crate::model::Timestamp;

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerOptions {
    /// Failures in a row after which it opens.
    pub failures_max: u32,
    /// How long it stays open before it lets a call through, in seconds.
    pub open_s: u64,
    /// Successes in a row, once it lets calls through again, after which it closes.
    pub successes_to_close: u32,
}

/// What a breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One call at a time goes through, to see whether the peer is back.
    HalfOpen,
    /// No call goes through.
    Open,
}

/// A circuit breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: BreakerState,
    /// Failures in a row while closed, successes in a row while half open.
    count: u32,
    probing: bool,
    opened: Timestamp,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(options: BreakerOptions) -> Self {
        let state = BreakerState::Closed;
        Self { options, state, count: 0, probing: false, opened: Timestamp::default() }
    }

    /// What it is doing at present.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether a call may go through now. While half open only one at a time may: each call that
    /// was let through must be followed by [`succeeded`](Self::succeeded),
    /// [`failed`](Self::failed) or [`abandoned`](Self::abandoned).
    pub fn allows(&mut self, now: Timestamp) -> bool {
        if self.state == BreakerState::Open && self.remaining(now).is_zero() {
            self.state = BreakerState::HalfOpen;
            (self.count, self.probing) = (0, false);
        }
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => !std::mem::replace(&mut self.probing, true),
        }
    }

    /// How long it stays open from now on; zero if it is not open.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        let open = Duration::from_secs(self.options.open_s);
        match self.state {
            // A clock that was stepped back must not keep the breaker open for longer.
            BreakerState::Open => open.saturating_sub(now.since(self.opened)),
            BreakerState::Closed | BreakerState::HalfOpen => Duration::ZERO,
        }
    }

    /// A call went well.
    pub fn succeeded(&mut self) {
        self.probing = false;
        match self.state {
            BreakerState::Closed => self.count = 0,
            BreakerState::HalfOpen => {
                self.count += 1;
                if self.count >= self.options.successes_to_close {
                    (self.state, self.count) = (BreakerState::Closed, 0);
                }
            }
            BreakerState::Open => {}
        }
    }

    /// A call failed.
    pub fn failed(&mut self, now: Timestamp) {
        self.probing = false;
        self.count += 1;
        let opens = match self.state {
            BreakerState::Closed => self.count >= self.options.failures_max,
            BreakerState::HalfOpen => true,
            BreakerState::Open => false,
        };
        if opens {
            (self.state, self.opened, self.count) = (BreakerState::Open, now, 0);
        }
    }

    /// A call ended without saying anything of the peer.
    pub fn abandoned(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_after_successes() {
        let options = BreakerOptions { failures_max: 3, open_s: 20, successes_to_close: 3 };
        let mut breaker = Breaker::new(options);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000).unwrap();
        breaker.failed(at(0));
        breaker.failed(at(0));
        breaker.succeeded();
        breaker.failed(at(0));
        breaker.failed(at(0));
        assert!(breaker.allows(at(0)), "a success resets the count");
        breaker.failed(at(1));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.allows(at(20)));
        assert_eq!(breaker.remaining(at(20)), Duration::from_secs(1));
        assert!(breaker.allows(at(21)));
        assert!(!breaker.allows(at(21)), "one probe at a time");
        breaker.failed(at(22));
        assert_eq!(breaker.state(), BreakerState::Open, "a failed probe opens it again");
        for _ in 0..3 {
            assert!(breaker.allows(at(42)));
            breaker.succeeded();
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.allows(at(42)) && breaker.allows(at(42)));
    }
}
