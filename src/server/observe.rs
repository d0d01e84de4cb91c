//! Counts and times the calls of both APIs.

use std::time::Instant;

use crate::metrics::Metrics;

/// One call. A call that is dropped, because its caller gave up, counts as well: slow calls are
/// those that are given up.
pub(crate) struct Observed {
    metrics: Metrics,
    function: &'static str,
    began: Instant,
    success: bool,
}

impl Observed {
    /// A call begins; `function` is the rpc's name.
    pub(crate) fn begin(metrics: &Metrics, function: &'static str) -> Self {
        metrics.request();
        Self { metrics: metrics.clone(), function, began: Instant::now(), success: false }
    }

    /// The call ends: was it answered with success?
    pub(crate) fn end(mut self, success: bool) {
        self.success = success;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.responded(self.function, seconds, self.success);
    }
}
