//! The collector: from a stream of ticks to the door.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Door, MarketError, TickStream};
use crate::metrics::{Metrics, Reason};
use crate::model::{Symbol, Tick, Timestamp};
use crate::pipeline::stage::{Dedupe, Evaluate, Flow, Notify, Source, StageError};
use crate::pipeline::{Backoff, Pipeline};

/// Collects until the stream ends or `stop` is cancelled.
pub async fn collect(
    ticks: Box<dyn TickStream>,
    door: Arc<dyn Door>,
    backoff: Backoff,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), StageError> {
    Pipeline::from(Ticks { ticks, metrics })
        .evaluate(Pass)
        .dedupe(Newer::default())
        .notify(Enter(door))
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
                    MarketError::BadPrice { .. } => Some("price"),
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

/// Drops ticks that are not newer than the last one this process has passed on: a polled source
/// repeats itself. Only a saving: it starts empty, so nothing is refused as not newer that was
/// never accepted, and the evaluator alone decides which ticks count.
#[derive(Default)]
struct Newer(HashMap<Symbol, Timestamp>);

impl Dedupe<Vec<Tick>> for Newer {
    fn dedupe(&mut self, out: &mut Vec<Tick>) {
        out.retain(|tick| match self.0.get_mut(&tick.symbol) {
            Some(last) if *last >= tick.time => false,
            Some(last) => {
                *last = tick.time;
                true
            }
            None => {
                self.0.insert(tick.symbol, tick.time);
                true
            }
        });
    }
}

struct Enter(Arc<dyn Door>);

#[async_trait]
impl Notify<Vec<Tick>> for Enter {
    async fn notify(&mut self, ticks: &mut Vec<Tick>) -> Result<(), StageError> {
        if ticks.is_empty() {
            return Ok(());
        }
        let refusals = self.0.accept(ticks.clone()).await?;
        for (tick, reason) in ticks.drain(..).zip(refusals) {
            if let Some(reason) = reason {
                tracing::warn!(symbol = %tick.symbol, "a tick was refused: {reason}");
            }
        }
        Ok(())
    }
}
