//! The collector: from a stream of ticks to the door.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Door, MarketError, TickStream};
use crate::metrics::{Metrics, Reason};
use crate::model::{Symbol, Tick, Timestamp};
use crate::pipeline::stage::{Evaluate, Flow, Notify, Source, StageError};
use crate::pipeline::{Backoff, Pipeline};

/// Collects until the stream ends or `stop` is cancelled. Of a source that is polled, what it
/// says again is not passed on again.
pub async fn collect(
    ticks: Box<dyn TickStream>,
    polled: bool,
    door: Arc<dyn Door>,
    backoff: Backoff,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), StageError> {
    Pipeline::from(Ticks { ticks, metrics })
        .evaluate(Pass)
        .notify(Enter { door, accepted: polled.then(HashMap::new) })
        .retry(backoff)
        .run(stop)
        .await
}

struct Ticks {
    ticks: Box<dyn TickStream>,
    metrics: Metrics,
}

#[async_trait]
impl Source for Ticks {
    type Item = Tick;

    async fn next(&mut self, batch: &mut Vec<Tick>) -> Result<Flow, StageError> {
        match self.ticks.next().await {
            None => return Ok(Flow::End),
            Some(Ok(ticks)) => batch.extend(ticks),
            Some(Err(error)) => {
                let reason = match &error {
                    MarketError::UnknownSymbol(_) => Some("unknown"),
                    MarketError::BadPrice { .. } | MarketError::BadRow(_) => Some("price"),
                    _ => None,
                };
                if let Some(reason) = reason {
                    self.metrics.ticks_refused.get_or_create(&Reason { reason }).inc();
                }
                tracing::warn!("no price was taken: {error}");
            }
        }
        Ok(Flow::More)
    }
}

struct Pass;

impl Evaluate<Tick> for Pass {
    type Out = Vec<Tick>;

    fn evaluate(&mut self, batch: &mut Vec<Tick>, out: &mut Vec<Tick>) {
        out.append(batch);
    }
}

/// After this long the same tick is passed on once more; the evaluator counts it as repeated.
const REPEATS_AFTER: Duration = Duration::from_secs(600);

/// Passes ticks on to the door.
struct Enter {
    door: Arc<dyn Door>,
    /// The times of the newest ticks that were accepted, and when: a polled source repeats
    /// itself. Only a saving, which starts empty, knows nothing of what the door refused, and
    /// forgets after a while, so that a symbol that was reset gets its price again. `None` for a
    /// source whose ticks all pass.
    accepted: Option<HashMap<Symbol, (Timestamp, Instant)>>,
}

#[async_trait]
impl Notify<Vec<Tick>> for Enter {
    async fn notify(&mut self, ticks: &mut Vec<Tick>) -> Result<(), StageError> {
        if let Some(accepted) = &mut self.accepted {
            accepted.retain(|_, (_, at)| at.elapsed() < REPEATS_AFTER);
            ticks.retain(|tick| {
                accepted.get(&tick.symbol).is_none_or(|(last, _)| tick.time > *last)
            });
        }
        if ticks.is_empty() {
            return Ok(());
        }
        let refusals = self.door.accept(ticks.clone(), None).await?;
        for (tick, refusal) in ticks.drain(..).zip(refusals) {
            match (refusal, &mut self.accepted) {
                (Some(reason), _) => {
                    tracing::warn!(symbol = %tick.symbol, "a tick was refused: {reason}");
                }
                (None, Some(accepted)) => {
                    accepted.insert(tick.symbol, (tick.time, Instant::now()));
                }
                (None, None) => {}
            }
        }
        Ok(())
    }
}
