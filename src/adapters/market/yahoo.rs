//! Yahoo Finance: the newest close of the current day, through its chart API.
//!
//! From the outside in, a quote goes through: bounded concurrency, retry with backoff, pace (rate
//! limit and `Retry-After`), circuit breaker, timeout, and the request itself. The breaker sees
//! each attempt just before it leaves, so that neither retries nor what waited for its turn
//! reach a source that has failed meanwhile; the timeout is around one attempt, so that waiting
//! costs none of its time.

pub(crate) mod answer;
pub(crate) mod fetch;
mod layers;
mod options;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tower::timeout::error::Elapsed;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use self::fetch::Fetch;
use self::layers::{AroundLayer, Backoff, BreakerGate, Pace};
pub use self::options::{YahooError, YahooOptions};
use crate::metrics::Metrics;
use crate::model::{Symbol, Tick};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::collect::{MarketError, Quotes};

/// Yahoo Finance.
pub struct Yahoo {
    stack: BoxCloneSyncService<Symbol, Tick, MarketError>,
}

impl Yahoo {
    /// Prepares the client; asks nothing yet.
    pub fn new(
        options: YahooOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: Metrics,
    ) -> Result<Self, YahooError> {
        options.check()?;
        let fetch = Arc::new(Fetch::new(&options, clock.clone(), metrics.clone())?);
        let hold_max = Duration::from_secs(options.retry_after_max_s);
        let pace = Pace::new(clock.clone(), options.requests_per_s, hold_max);
        let breaker = BreakerGate::new(options.breaker, clock.clone(), metrics.clone());
        let backoff = Backoff {
            retries_left: options.retries_max,
            wait: Duration::from_millis(options.backoff_ms),
            wait_max: Duration::from_millis(options.backoff_max_ms),
            clock,
            random,
            metrics,
            last: None,
        };
        let timeout = Duration::from_millis(options.timeout_ms);
        let stack = ServiceBuilder::new()
            .concurrency_limit(options.concurrency_max)
            .retry(backoff)
            .layer(AroundLayer(Arc::new(pace)))
            .layer(AroundLayer(Arc::new(breaker)))
            .map_err(move |error| market_error(error, timeout))
            .timeout(timeout)
            .service(service_fn(move |symbol| {
                let fetch = fetch.clone();
                async move { fetch.quote(symbol).await }
            }));
        Ok(Self { stack: BoxCloneSyncService::new(stack) })
    }
}

#[async_trait]
impl Quotes for Yahoo {
    async fn quote(&self, symbol: Symbol) -> Result<Tick, MarketError> {
        self.stack.clone().oneshot(symbol).await
    }
}

/// The error behind the one that the timeout layer gives.
fn market_error(error: BoxError, timeout: Duration) -> MarketError {
    match error.downcast::<MarketError>() {
        Ok(error) => *error,
        Err(error) if error.is::<Elapsed>() => MarketError::Failed(format!(
            "expected an answer within {} ms, found none",
            timeout.as_millis()
        )),
        Err(error) => MarketError::Failed(error.to_string()),
    }
}
