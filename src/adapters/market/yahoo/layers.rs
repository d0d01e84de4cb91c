//! Tower layers around one attempt: circuit breaker, pace, and when to try again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tower::retry::Policy;
use tower::{Layer, Service};

use crate::adapters::market::stopwatch::Stopwatch;
use crate::metrics::{Metrics, Peer, Stage};
use crate::model::{Symbol, Tick};
use crate::pipeline::breaker::{Breaker, BreakerOptions, BreakerState};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::collect::MarketError;

type Quote = Result<Tick, MarketError>;

/// Whether the source failed, rather than told something of a symbol.
fn is_failure(error: &MarketError) -> bool {
    matches!(error, MarketError::Failed(_) | MarketError::Throttled { .. })
}

/// What happens around an attempt. One value is shared by all clones of the stack.
pub(super) trait Around: Send + Sync + 'static {
    /// Makes the attempt, or does not.
    fn attempt(self: Arc<Self>, attempt: BoxFuture<'static, Quote>) -> BoxFuture<'static, Quote>;
}

/// A layer that puts something around each attempt.
pub(super) struct AroundLayer<A>(pub(super) Arc<A>);

/// The service that [`AroundLayer`] makes.
pub(super) struct AroundService<A, S> {
    around: Arc<A>,
    inner: S,
}

impl<A, S> Layer<S> for AroundLayer<A> {
    type Service = AroundService<A, S>;

    fn layer(&self, inner: S) -> Self::Service {
        AroundService { around: self.0.clone(), inner }
    }
}

impl<A, S: Clone> Clone for AroundService<A, S> {
    fn clone(&self) -> Self {
        Self { around: self.around.clone(), inner: self.inner.clone() }
    }
}

impl<A, S> Service<Symbol> for AroundService<A, S>
where
    A: Around,
    S: Service<Symbol, Response = Tick, Error = MarketError, Future: Send>,
    S: Clone + Send + 'static,
{
    type Response = Tick;
    type Error = MarketError;
    type Future = BoxFuture<'static, Quote>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), MarketError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, symbol: Symbol) -> Self::Future {
        // Called only when the attempt may begin: the timeout within starts with the call. The
        // service that was found ready is the one to call; its clone stays behind.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        self.around.clone().attempt(async move { inner.call(symbol).await }.boxed())
    }
}

/// Stops asking a source that fails.
pub(super) struct BreakerGate {
    breaker: Mutex<Breaker>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl BreakerGate {
    pub(super) fn new(options: BreakerOptions, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let gate = Self { breaker: Mutex::new(Breaker::new(options)), clock, metrics };
        gate.change(|_| ());
        gate
    }

    fn change<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut breaker);
        self.show(&breaker);
        result
    }

    fn show(&self, breaker: &MutexGuard<'_, Breaker>) {
        let state = match breaker.state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.metrics.breaker.get_or_create(&Peer { peer: "market" }).set(state);
    }
}

impl Around for BreakerGate {
    fn attempt(self: Arc<Self>, attempt: BoxFuture<'static, Quote>) -> BoxFuture<'static, Quote> {
        async move {
            let now = self.clock.now();
            if !self.change(|breaker| breaker.allows(now)) {
                return Err(MarketError::BreakerOpen);
            }
            let mut call = AllowedCall { gate: &self, settled: false };
            let result = attempt.await;
            call.settle(result.as_ref().is_err_and(is_failure));
            result
        }
        .boxed()
    }
}

/// A call that the breaker let through. If its caller gives up, the breaker learns that too;
/// otherwise it would wait for the end of a probe for good.
struct AllowedCall<'a> {
    gate: &'a BreakerGate,
    settled: bool,
}

impl AllowedCall<'_> {
    fn settle(&mut self, failed: bool) {
        self.settled = true;
        let now = self.gate.clock.now();
        self.gate.change(|breaker| if failed { breaker.failed(now) } else { breaker.succeeded() });
    }
}

impl Drop for AllowedCall<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.gate.change(Breaker::abandoned);
        }
    }
}

/// Spreads requests evenly, and lets none leave while the source asks to be left alone.
///
/// Tower's rate limit can't be shared by the clones that a retry needs, and knows neither
/// `Retry-After` nor an injected clock.
pub(super) struct Pace {
    stopwatch: Stopwatch,
    clock: Arc<dyn Clock>,
    interval: Duration,
    hold_max: Duration,
    /// When the next request may leave, by the stopwatch.
    next: Mutex<Duration>,
}

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>, requests_per_s: u32, hold_max: Duration) -> Self {
        let interval = Duration::from_secs(1) / requests_per_s.max(1);
        let stopwatch = Stopwatch::new(clock.clone());
        Self { stopwatch, clock, interval, hold_max, next: Mutex::default() }
    }

    /// Takes the right to send one request, or says how long there is none.
    fn take(&self) -> Result<(), Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = self.stopwatch.elapsed();
        if elapsed < *next {
            return Err(*next - elapsed);
        }
        *next = elapsed + self.interval;
        Ok(())
    }

    fn hold(&self, duration: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(self.stopwatch.elapsed() + duration.min(self.hold_max));
    }
}

impl Around for Pace {
    fn attempt(self: Arc<Self>, attempt: BoxFuture<'static, Quote>) -> BoxFuture<'static, Quote> {
        async move {
            // Those that wait take the right anew, because a hold may have come meanwhile.
            while let Err(wait) = self.take() {
                self.clock.sleep(wait).await;
            }
            let result = attempt.await;
            if let Err(MarketError::Throttled { retry_after: Some(wait) }) = result {
                self.hold(wait);
            }
            result
        }
        .boxed()
    }
}

/// Tries again what failed, after waits that double. One clone serves one request.
#[derive(Clone)]
pub(super) struct Backoff {
    pub(super) retries_left: u32,
    pub(super) wait: Duration,
    pub(super) wait_max: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) metrics: Metrics,
    /// What the attempt before came to.
    pub(super) last: Option<MarketError>,
}

impl Policy<Symbol, Tick, MarketError> for Backoff {
    type Future = BoxFuture<'static, ()>;

    fn retry(&mut self, _: &mut Symbol, result: &mut Quote) -> Option<Self::Future> {
        let Err(error) = result else { return None };
        if *error == MarketError::BreakerOpen {
            // Why the breaker opened says more than that it did.
            *error = self.last.take().unwrap_or(MarketError::BreakerOpen);
            return None;
        }
        if !is_failure(error) || self.retries_left == 0 {
            return None;
        }
        self.retries_left -= 1;
        self.last = Some(error.clone());
        self.metrics.retries.get_or_create(&Stage { stage: "collect" }).inc();
        let wait = self.random.jitter(self.wait.min(self.wait_max));
        self.wait = self.wait.saturating_mul(2);
        let clock = self.clock.clone();
        Some(async move { clock.sleep(wait).await }.boxed())
    }

    fn clone_request(&mut self, symbol: &Symbol) -> Option<Symbol> {
        Some(*symbol)
    }
}
