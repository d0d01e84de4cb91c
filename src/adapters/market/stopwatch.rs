//! Time that has passed by a clock, and never goes backwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::Timestamp;
use crate::pipeline::clock::Clock;

/// Measures the time since it was made. The host may step its wall clock back; a plain
/// difference would then make a wait as long as the step.
pub(super) struct Stopwatch {
    clock: Arc<dyn Clock>,
    state: Mutex<(Timestamp, Duration)>,
}

impl Stopwatch {
    /// A stopwatch that starts now.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new((clock.now(), Duration::ZERO));
        Self { clock, state }
    }

    /// The time that has passed.
    pub(super) fn elapsed(&self) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, elapsed) = *state;
        let now = self.clock.now();
        *state = (now, elapsed + now.since(before));
        state.1
    }
}
