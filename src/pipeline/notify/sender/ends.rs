//! What the delivery loop does when an attempt, a settle or a claim has ended.

use std::time::Duration;

use tracing::field::display;

use crate::metrics;
use crate::model::Timestamp;
use crate::pipeline::breaker::BreakerState;
use crate::pipeline::store::StoreError;

use super::{
    ClaimAnswer, Ended, Held, MailError, Outcome, STAGE, Sender, SettleAnswer, Settlement,
};

/// The shortest time between two looks that found nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Sender {
    pub(super) fn end(&mut self, ended: Ended) {
        let Ended { delivery, probe, result } = ended;
        let now = self.ports.clock.now();
        if probe {
            self.probing = false;
            self.look_at = Timestamp::MIN;
        }
        // An attempt from before the breaker opened says nothing to it now.
        if probe || self.breaker.state() == BreakerState::Closed {
            match &result {
                Err(MailError::Unreachable(_)) => self.breaker.failed(now),
                _ => self.breaker.succeeded(),
            }
        }
        let outcome = self.options.outcome(
            result,
            delivery.attempts,
            &self.breaker,
            now,
            &*self.ports.random,
        );
        let label = match &outcome {
            Outcome::Delivered => {
                let seconds = now.since(delivery.accepted).as_secs_f64();
                self.ports.metrics.tick_to_mail.observe(seconds);
                "delivered"
            }
            Outcome::Retry { .. } => "retry",
            Outcome::Unjudged { .. } => "unreachable",
            Outcome::Dead { .. } => "dead",
        };
        self.ports.metrics.deliveries.get_or_create(&metrics::Outcome { outcome: label }).inc();
        let alert = delivery.alert.id;
        let trace_id = delivery.trace.map(|trace| display(trace.trace_id()));
        if let Outcome::Retry { error, .. }
        | Outcome::Unjudged { error, .. }
        | Outcome::Dead { error } = &outcome
        {
            tracing::warn!(alert = %alert, trace_id, outcome = label, error, "mail not sent");
        } else {
            tracing::debug!(alert = %alert, trace_id, "mail sent");
        }
        self.held.insert(delivery.id, Held::Ended);
        self.unsettled.push(Settlement { id: delivery.id, outcome });
    }

    pub(super) fn settled(&mut self, (batch, result): SettleAnswer) -> Result<(), StoreError> {
        match result {
            Ok(()) => {
                self.backoff.reset();
                for settlement in batch {
                    self.held.remove(&settlement.id);
                    if let Outcome::Retry { at, .. } | Outcome::Unjudged { at, .. } =
                        settlement.outcome
                    {
                        self.look_at = self.look_at.min(at);
                    }
                }
                Ok(())
            }
            Err(error) => {
                self.unsettled.extend(batch);
                self.settle_at = self.after_failure(error)?;
                Ok(())
            }
        }
    }

    pub(super) fn claimed(
        &mut self,
        (asked, limit, result): ClaimAnswer,
    ) -> Result<(), StoreError> {
        match result {
            Ok(claimed) => {
                self.backoff.reset();
                let full = u32::try_from(claimed.deliveries.len()).is_ok_and(|n| n >= limit);
                if full {
                    self.look_at = Timestamp::MIN;
                } else if let Some(due) = claimed.next_due {
                    // The store's clock may be behind ours: never ask it over and over.
                    self.look_at = self.look_at.min(due.max(asked.plus(LOOK_AGAIN)));
                }
                self.hold(claimed.deliveries, asked);
            }
            Err(error) => self.look_at = self.after_failure(error)?,
        }
        Ok(())
    }

    /// When to call the store again after `error`, unless that is no use.
    fn after_failure(&mut self, error: StoreError) -> Result<Timestamp, StoreError> {
        if !error.is_transient() {
            return Err(error);
        }
        self.ports.metrics.retries.get_or_create(&STAGE).inc();
        let wait = self.backoff.next(&*self.ports.random);
        tracing::warn!(%error, ?wait, "deliveries wait for the store");
        Ok(self.ports.clock.now().plus(wait))
    }
}
