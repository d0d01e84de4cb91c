//! What the stages' store ports share: errors, fences, dead records.

use async_trait::async_trait;
use bytes::Bytes;

use super::broker::{Topic, TopicId};
use crate::model::{Epoch, Offset, Partition};

/// Why a store did not do what was asked. Nothing of a failed transaction is in effect, except
/// that a `Transient` one may have committed: repeating it is safe, because every transaction
/// names the position that it starts from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It may work later: locked, full, out of reach.
    #[error("the store is not available: {0}")]
    Transient(String),
    /// Another owner has taken the partition over; what this one holds in memory is stale.
    #[error("partition {partition} has another owner now (this one had epoch {epoch})")]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The epoch that was overtaken.
        epoch: Epoch,
    },
    /// The partition stands elsewhere than the caller believes.
    #[error("partition {partition} stands at offset {found}, not at {expected}")]
    Position {
        /// The partition.
        partition: Partition,
        /// What the caller believed.
        expected: Offset,
        /// What the store knows.
        found: Offset,
    },
    /// The store was made for another number of partitions.
    #[error(
        "the store knows {expected} partitions of {topic}, the broker has {found}: \
         bring the broker back to {expected}, or migrate the store"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// What the store knows.
        expected: u32,
        /// What there is.
        found: u32,
    },
    /// The topic is not the one that the store's positions are of.
    #[error(
        "the log of {topic} was lost or replaced: the store's positions are of {expected}, the \
         broker has {found}. Bring back the log that belongs to this store, or the store that \
         belongs to this log"
    )]
    Replaced {
        /// The topic.
        topic: String,
        /// The one that the store knows.
        expected: TopicId,
        /// The one that there is.
        found: TopicId,
    },
    /// It will not work later either: damaged, read-only, of a newer version.
    #[error("the store failed: {0}")]
    Permanent(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }
}

/// What every process settles with the store before anything else: which topics there are.
#[async_trait]
pub trait TopicStore: Send + Sync + 'static {
    /// Takes note of a topic as the broker has it, at the first call for it. Later ones compare:
    /// `Partitions` for another number of partitions, `Replaced` for another topic of the same
    /// name, in which the positions kept here would mean other records.
    async fn adopt_topic(&self, topic: &str, found: Topic) -> Result<(), StoreError>;
}

/// The right to commit for a partition, until somebody else takes it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The partition.
    pub partition: Partition,
    /// The owner's epoch.
    pub epoch: Epoch,
}

/// A stretch of a partition's log: what a transaction consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The position before: the offset of the first record consumed.
    pub from: Offset,
    /// The position after: the offset of the next record to consume.
    pub to: Offset,
}

/// A record that does not decode, set aside so that it holds nothing up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: Partition,
    /// Its place.
    pub offset: Offset,
    /// Why it does not decode.
    pub reason: String,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its content.
    pub value: Bytes,
}
