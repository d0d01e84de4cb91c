//! Port: what the notifier needs of the store. Each method is one transaction.

use async_trait::async_trait;

use crate::model::{Alert, Email, Offset, Partition, Timestamp};
use crate::pipeline::store::{DeadRecord, Fence, Span, StoreError, TopicStore};
use crate::trace::TraceParent;

/// The identity of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// An alert as it comes out of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The alert.
    pub alert: Alert,
    /// When the tick that made it was accepted into the log.
    pub accepted: Timestamp,
    /// The span that accepts it, where it is traced.
    pub trace: Option<TraceParent>,
}

/// A delivery that was claimed: this owner sends it, until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its identity.
    pub id: DeliveryId,
    /// The alert to tell.
    pub alert: Alert,
    /// The address to tell it to.
    pub email: Email,
    /// Attempts that a mail server has judged before this one.
    pub attempts: u32,
    /// When the tick that made it was accepted into the log.
    pub accepted: Timestamp,
    /// The span that accepted it, where it is traced: kept with it, for whoever sends it.
    pub trace: Option<TraceParent>,
}

/// Who claims, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The claiming process; no two running ones have the same name.
    pub owner: String,
    /// How long the claim lasts, in milliseconds of the store's clock. After that another may
    /// claim the delivery, so it must be longer than any attempt takes.
    pub lease_ms: u64,
}

/// What a claim returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Deliveries now owned by the caller, the longest due first.
    pub deliveries: Vec<Delivery>,
    /// When the next delivery is due, as far as it is known, if none is now.
    pub next_due: Option<Timestamp>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The mail server took it.
    Delivered,
    /// The mail server refused it for now: one more judged attempt, due again at `at`.
    Retry {
        /// When to try again.
        at: Timestamp,
        /// What the server said.
        error: String,
    },
    /// No mail server judged it: due again at `at`, and no attempt is counted.
    Unjudged {
        /// When to try again.
        at: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// Given up: to the dead letters.
    Dead {
        /// Why.
        error: String,
    },
}

/// The end of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The delivery.
    pub id: DeliveryId,
    /// How its attempt ended.
    pub outcome: Outcome,
}

/// A partition of the alerts' topic that was just taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The right to commit; every earlier one is void.
    pub fence: Fence,
    /// Where to read on.
    pub position: Offset,
}

/// The notifier's transactions.
#[async_trait]
pub trait NotifyStore: TopicStore {
    /// Takes a partition of the alerts' topic over, as in
    /// [`EvaluateStore::own`](crate::pipeline::evaluate::EvaluateStore::own).
    async fn own(&self, partition: Partition, earliest: Offset) -> Result<Owned, StoreError>;

    /// Makes a delivery of each alert that has none yet, and commits the position. An alert
    /// that the store does not have is dropped (only committed ones are published); one whose
    /// user or watch is gone becomes a cancelled delivery that says which. Claims up to
    /// `claim_max` of the new deliveries for `claimant` in the same transaction. Fenced and
    /// repeatable as [`EvaluateStore::commit`](crate::pipeline::evaluate::EvaluateStore::commit);
    /// a repeated one claims nothing.
    async fn accept(
        &self,
        fence: Fence,
        span: Span,
        incoming: &[Incoming],
        dead: &[DeadRecord],
        claimant: &Claimant,
        claim_max: u32,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Claims up to `limit` deliveries that are due and that nobody has claimed, or whose lease
    /// has ended. Never one whose user or watch is deleted.
    async fn claim(&self, claimant: &Claimant, limit: u32) -> Result<Claimed, StoreError>;

    /// Deliveries that `claimant` has claimed for at least `held_ms` and that are none of `known`:
    /// the answer that named them was lost. Their lease begins anew.
    async fn reclaim(
        &self,
        claimant: &Claimant,
        known: &[DeliveryId],
        held_ms: u64,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Records how attempts ended. A delivery whose claim has gone to another owner meanwhile is
    /// left as it is, except that `Delivered` is always recorded. A delivery cancelled while it
    /// was claimed is recorded as delivered if it was.
    async fn settle(
        &self,
        claimant: &Claimant,
        settlements: &[Settlement],
    ) -> Result<(), StoreError>;
}
