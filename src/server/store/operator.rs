//! Port: what operators need, and upkeep.

use async_trait::async_trait;

use super::DeliveryState;
use crate::model::{Alert, AlertId, Email, Timestamp};
use crate::pipeline::store::{DeadRecord, StoreError};

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetter {
    /// A delivery that was given up.
    Delivery {
        /// Its number.
        id: u64,
        /// The alert.
        alert: Alert,
        /// Whom it was for.
        email: Email,
        /// Attempts judged.
        attempts: u32,
        /// What the mail server said last.
        reason: String,
        /// When it was given up.
        time: Timestamp,
    },
    /// A record that does not decode.
    Record {
        /// Its number.
        id: u64,
        /// The record.
        record: DeadRecord,
        /// When it was set aside.
        time: Timestamp,
    },
}

impl DeadLetter {
    /// Which one it is.
    pub fn id(&self) -> DeadLetterId {
        match self {
            Self::Delivery { id, .. } => DeadLetterId::Delivery(*id),
            Self::Record { id, .. } => DeadLetterId::Record(*id),
        }
    }
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The letters, newest first.
    pub letters: Vec<DeadLetter>,
    /// The last of the page, where the next page goes on; `None` if there is none.
    pub next: Option<DeadLetterId>,
}

/// Which dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadLetterId {
    /// A delivery: `delivery-17`.
    Delivery(u64),
    /// A record: `record-4`.
    Record(u64),
}

/// Counts for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries pending, claimed ones included.
    pub pending: u64,
    /// Dead deliveries.
    pub dead_deliveries: u64,
    /// Dead records.
    pub dead_records: u64,
}

/// What operators need, and upkeep.
#[async_trait]
pub trait OperatorStore: Send + Sync + 'static {
    /// A page of dead letters, newest first: deliveries and records merged by time, at most
    /// `limit` and of `bytes_max` bytes in all, but one at least. No others are read. `before` is
    /// the last of the page before; when it is no dead letter any more, the listing starts over:
    /// rather twice than never.
    async fn dead_letters(
        &self,
        before: Option<DeadLetterId>,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DeadLetters, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// Counts for the metrics. Costs little, however much is stored.
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// Deletes what has outlived its age, a bounded amount a call; returns whether there is more.
    async fn sweep(&self) -> Result<bool, StoreError>;

    /// The state of the alert of an id, for tests and tools.
    async fn delivery(&self, id: AlertId) -> Result<Option<DeliveryState>, StoreError>;
}
