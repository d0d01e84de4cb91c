//! The delivery loop: claims due deliveries, sends them side by side, records how each ended.
//!
//! One task owns all state; attempts run in tasks of their own, so that a slow recipient holds
//! up nobody. At any moment at most one claim and one settle are on the way to the store, and
//! what ends meanwhile forms the next settle.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::failpoint;
use crate::metrics::{Metrics, Peer, Stage};
use crate::model::Timestamp;
use crate::pipeline::breaker::{Breaker, BreakerState};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::store::StoreError;
use crate::trace::{Span, SpanKind};

use super::compose::compose;
use super::retry::{Backoff, SenderOptions, SenderOptionsError};
use super::{
    Claimant, Claimed, Delivery, DeliveryId, MailError, Mailer, NotifyStore, Outcome, Settlement,
};

mod drain;
mod ends;
mod handle;
#[cfg(test)]
mod tests;

pub use handle::SenderHandle;
use handle::Shared;

const STAGE: Stage = Stage { stage: "deliver" };

/// What a sender works with.
#[derive(Clone)]
pub struct SenderPorts {
    /// Where deliveries are claimed and settled.
    pub store: Arc<dyn NotifyStore>,
    /// Who takes the mails.
    pub mailer: Arc<dyn Mailer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// Where it counts.
    pub metrics: Metrics,
}

/// Sends deliveries until it is stopped.
pub struct Sender {
    ports: SenderPorts,
    options: SenderOptions,
    claimant: Claimant,
    shared: Arc<Shared>,
    breaker: Breaker,
    backoff: Backoff,
    /// Every delivery that is ours, from its claim until its settlement is recorded.
    held: HashMap<DeliveryId, Held>,
    waiting: VecDeque<Waiting>,
    attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Whether an attempt is on the way that tells a half-open breaker how the peer is.
    probing: bool,
    claiming: Option<BoxFuture<'static, ClaimAnswer>>,
    look_at: Timestamp,
    /// When to look for claims of ours that we do not know of.
    reclaim_at: Timestamp,
    unsettled: Vec<Settlement>,
    settling: Option<BoxFuture<'static, SettleAnswer>>,
    settle_at: Timestamp,
}

/// When a claim was asked for, how many, and what came of it.
type ClaimAnswer = (Timestamp, u32, Result<Claimed, StoreError>);
/// What was to be settled, and whether it is.
type SettleAnswer = (Vec<Settlement>, Result<(), StoreError>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Waiting,
    Sending,
    Ended,
}

struct Waiting {
    delivery: Delivery,
    claimed: Timestamp,
}

struct Ended {
    delivery: Delivery,
    /// Whether the breaker is to hear of it.
    probe: bool,
    result: Result<(), MailError>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Nobody is to claim for a sender that has ended.
        self.shared.free.store(0, Ordering::Relaxed);
    }
}

impl Sender {
    /// A sender that claims in the name `owner`; no two running processes have the same.
    pub fn new(
        ports: SenderPorts,
        options: SenderOptions,
        owner: &str,
    ) -> Result<(Self, SenderHandle), SenderOptionsError> {
        options.check()?;
        let shared = Arc::new(Shared::default());
        shared.free.store(options.in_flight_max.min(options.batch_max), Ordering::Relaxed);
        let handle = SenderHandle::new(&shared);
        let sender = Self {
            claimant: Claimant { owner: owner.to_owned(), lease_ms: options.lease_ms },
            breaker: Breaker::new(options.breaker),
            backoff: Backoff::new(options.store_backoff_ms, options.store_backoff_ms_max),
            ports,
            options,
            shared,
            held: HashMap::new(),
            waiting: VecDeque::new(),
            attempts: FuturesUnordered::new(),
            probing: false,
            claiming: None,
            look_at: Timestamp::MIN,
            reclaim_at: Timestamp::MIN,
            unsettled: Vec::new(),
            settling: None,
            settle_at: Timestamp::MIN,
        };
        Ok((sender, handle))
    }

    /// The name under which it claims, and for how long: for claims made on its behalf.
    pub fn claimant(&self) -> &Claimant {
        &self.claimant
    }

    /// Sends until `stop`, then lets attempts in flight end within `drain_ms` and gives the rest
    /// back. Ends early only if the store fails for good; what was claimed is then claimed by
    /// another once its lease ends.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        while !stop.is_cancelled() {
            let now = self.ports.clock.now();
            self.take_offered(now);
            self.start_waiting(now);
            self.start_settling(now);
            self.start_claiming(now);
            self.report();
            let pause = self.pause(now);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.attempts.next() => self.end(ended),
                settled = finish(&mut self.settling) => self.settled(settled)?,
                claimed = finish(&mut self.claiming) => self.claimed(claimed)?,
                () = self.shared.changed.notified() => {}
                () = self.ports.clock.sleep(pause) => {
                    // Whatever was waited for is due, even if the wall clock was stepped back.
                    (self.look_at, self.settle_at) = (Timestamp::MIN, Timestamp::MIN);
                }
            }
        }
        self.drain().await
    }

    fn take_offered(&mut self, now: Timestamp) {
        let inbox = self.shared.take();
        if inbox.look {
            self.look_at = Timestamp::MIN;
        }
        self.hold(inbox.offered, now);
    }

    fn hold(&mut self, deliveries: Vec<Delivery>, claimed: Timestamp) {
        for delivery in deliveries {
            // One that we hold already was claimed anew while its settlement was on the way: it
            // must not be sent again. If the store gave it to us after that, it is found later,
            // among the claims that we do not know of.
            if let Entry::Vacant(entry) = self.held.entry(delivery.id) {
                entry.insert(Held::Waiting);
                self.waiting.push_back(Waiting { delivery, claimed });
            }
        }
    }

    fn start_waiting(&mut self, now: Timestamp) {
        let timeout = Duration::from_millis(self.options.attempt_timeout_ms);
        let lease = Duration::from_millis(self.options.lease_ms);
        let slots = usize::try_from(self.options.in_flight_max).unwrap_or(usize::MAX);
        while self.attempts.len() < slots
            && let Some(Waiting { delivery, claimed }) = self.waiting.pop_front()
        {
            if now.plus(timeout) > claimed.plus(lease) {
                self.give_back(delivery.id, now, "its lease would end before the attempt");
            } else if self.breaker.allows(now) {
                let probe = self.breaker.state() == BreakerState::HalfOpen;
                self.probing |= probe;
                self.held.insert(delivery.id, Held::Sending);
                self.attempts.push(attempt(&self.ports, timeout, delivery, probe));
            } else {
                let at = self.options.unjudged_at(&self.breaker, now, &*self.ports.random);
                self.give_back(delivery.id, at, "the breaker is open after earlier failures");
            }
        }
    }

    fn give_back(&mut self, id: DeliveryId, at: Timestamp, why: &str) {
        self.held.insert(id, Held::Ended);
        let outcome = Outcome::Unjudged { at, error: format!("not sent: {why}") };
        self.unsettled.push(Settlement { id, outcome });
    }

    fn start_settling(&mut self, now: Timestamp) {
        if self.settling.is_some() || self.unsettled.is_empty() || now < self.settle_at {
            return;
        }
        let batch = std::mem::take(&mut self.unsettled);
        let (store, claimant) = (Arc::clone(&self.ports.store), self.claimant.clone());
        let settle = async move {
            let result = store.settle(&claimant, &batch).await;
            if result.is_ok() {
                failpoint::hit("deliver/after-settle");
            }
            (batch, result)
        };
        self.settling = Some(settle.boxed());
    }

    fn start_claiming(&mut self, now: Timestamp) {
        if self.claiming.is_some() || now < self.look_at {
            return;
        }
        let limit = match self.breaker.state() {
            BreakerState::Closed => self.free(),
            BreakerState::Open if !self.breaker.remaining(now).is_zero() => {
                self.look_at = now.plus(self.breaker.remaining(now));
                return;
            }
            // One at a time until the breaker closes.
            BreakerState::Open | BreakerState::HalfOpen => {
                if self.probing || !self.waiting.is_empty() { 0 } else { self.free().min(1) }
            }
        };
        if limit == 0 {
            return;
        }
        let (store, claimant) = (Arc::clone(&self.ports.store), self.claimant.clone());
        let (known, held_ms) = (self.lost(now), self.options.reclaim_ms);
        let claim = async move {
            let claim = async {
                let lost = match &known {
                    Some(known) => store.reclaim(&claimant, known, held_ms).await?,
                    None => Vec::new(),
                };
                let mut claimed = store.claim(&claimant, limit).await?;
                claimed.deliveries.extend(lost);
                Ok(claimed)
            };
            (now, limit, claim.await)
        };
        // Until the answer says otherwise; a wake that comes meanwhile brings it forward again.
        self.look_at = now.plus(Duration::from_millis(self.options.poll_ms));
        self.claiming = Some(claim.boxed());
    }

    /// What we hold, if it is time to ask for claims of ours beside that. An answer that was
    /// lost, or that named what was only just being settled, leaves such ones.
    fn lost(&mut self, now: Timestamp) -> Option<Vec<DeliveryId>> {
        if now < self.reclaim_at || self.breaker.state() != BreakerState::Closed {
            return None;
        }
        self.reclaim_at = now.plus(Duration::from_millis(self.options.reclaim_ms));
        Some(self.held.keys().copied().collect())
    }

    /// Deliveries to claim at once, at most.
    fn free(&self) -> u32 {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        self.options.in_flight_max.saturating_sub(held).min(self.options.batch_max)
    }

    fn report(&self) {
        let (free, breaker) = match self.breaker.state() {
            BreakerState::Closed => (self.free(), 0),
            BreakerState::HalfOpen => (0, 1),
            BreakerState::Open => (0, 2),
        };
        self.shared.free.store(free, Ordering::Relaxed);
        let depth = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
        self.ports.metrics.queue_depth.get_or_create(&STAGE).set(depth);
        self.ports.metrics.breaker.get_or_create(&Peer { peer: "mail" }).set(breaker);
    }

    /// How long nothing will be due.
    fn pause(&self, now: Timestamp) -> Duration {
        let poll = Duration::from_millis(self.options.poll_ms);
        // What is due and was not started waits for something other than time.
        let until = |at: Timestamp| if at > now { at.since(now).min(poll) } else { poll };
        let settle = if self.unsettled.is_empty() { poll } else { until(self.settle_at) };
        until(self.look_at).min(settle)
    }
}

/// One attempt, in a task of its own that ends with the future.
fn attempt(
    ports: &SenderPorts,
    timeout: Duration,
    delivery: Delivery,
    probe: bool,
) -> BoxFuture<'static, Ended> {
    let (mailer, clock) = (Arc::clone(&ports.mailer), Arc::clone(&ports.clock));
    let composing = Span::after(delivery.trace, "compose", SpanKind::Internal);
    let mail = compose(&delivery.alert, &delivery.email);
    drop(composing);
    let mut span = Span::after(delivery.trace, "send", SpanKind::Client);
    span.set_id("tripline.alert", delivery.alert.id);
    span.set("tripline.attempt", i64::from(delivery.attempts) + 1);
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        failpoint::hit("deliver/before-send");
        tokio::select! {
            result = mailer.send(&mail) => {
                failpoint::hit("deliver/after-send");
                result
            }
            () = clock.sleep(timeout) => {
                Err(MailError::Unreachable(format!("no answer within {} ms", timeout.as_millis())))
            }
        }
    }));
    async move {
        // A panic counts as an attempt, so that a mail that always causes one ends somewhere.
        let result = task.await.unwrap_or_else(|error| {
            Err(MailError::Transient(format!("sending ended abnormally: {error}")))
        });
        if let Err(error) = &result {
            span.failed(error);
        }
        Ended { delivery, probe, result }
    }
    .boxed()
}

/// The output of the future in `slot`, which is then empty; waits for ever if it is empty now.
async fn finish<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let output = future.await;
            *slot = None;
            output
        }
        None => pending().await,
    }
}
