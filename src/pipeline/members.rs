//! Port: who shares the partitions of a topic, and who owns which.
//!
//! It decides who *should* work on a partition, so that the work is shared and taken over. What
//! keeps a stale owner from committing is not here: that is the epoch which every commit names.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::store::StoreError;
use crate::model::Partition;

/// The members of a topic and what they own, at one instant of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The members whose lease has not ended, by name.
    pub members: BTreeSet<String>,
    /// The owner of each partition that has one among these members.
    pub owners: BTreeMap<Partition, String>,
}

/// The members of each topic. Leases run on the clock of whatever keeps them, never on a
/// member's own.
///
/// *Safety:* a partition has at most one owner at an instant, and only a live member is one.
/// *Cancellation:* a cancelled or failed call may have been carried out; repeating it is safe.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// Makes `member` live for another `lease_ms` from now, and returns what is. A member whose
    /// lease had ended owns nothing any more, even if nobody has claimed what it had.
    async fn heartbeat(&self, topic: &str, member: &str, lease_ms: u64)
    -> Result<View, StoreError>;

    /// Makes `member` the owner of those of `partitions` that have no live one. Returns those
    /// that it owns now, in order, also those that it owned before. A member that is not live
    /// gets nothing.
    async fn claim(
        &self,
        topic: &str,
        partitions: &[Partition],
        member: &str,
    ) -> Result<Vec<Partition>, StoreError>;

    /// Gives up those of `partitions` that `member` owns.
    async fn release(
        &self,
        topic: &str,
        partitions: &[Partition],
        member: &str,
    ) -> Result<(), StoreError>;

    /// Gives everything up and is a member no more.
    async fn leave(&self, topic: &str, member: &str) -> Result<(), StoreError>;
}

/// The only member there can be: it owns every partition at once. For a graph that has its store
/// to itself.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Partitions of each topic.
    pub partitions: u32,
}

#[async_trait]
impl Membership for Alone {
    async fn heartbeat(&self, _: &str, member: &str, _: u64) -> Result<View, StoreError> {
        Ok(View {
            members: BTreeSet::from([member.to_owned()]),
            owners: (0..self.partitions).map(|n| (Partition(n), member.to_owned())).collect(),
        })
    }

    async fn claim(
        &self,
        _: &str,
        partitions: &[Partition],
        _: &str,
    ) -> Result<Vec<Partition>, StoreError> {
        Ok(partitions.to_vec())
    }

    async fn release(&self, _: &str, _: &[Partition], _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn leave(&self, _: &str, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}
