//! The members within one process, for tests of several nodes beside each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Partition, Timestamp};
use crate::pipeline::clock::Clock;
use crate::pipeline::members::{Membership, View};
use crate::pipeline::store::StoreError;

/// The members of each topic, in memory.
pub struct MemoryMembers {
    clock: Arc<dyn Clock>,
    topics: Mutex<BTreeMap<String, Topic>>,
}

#[derive(Default)]
struct Topic {
    leases: BTreeMap<String, Timestamp>,
    owners: BTreeMap<Partition, String>,
}

impl Topic {
    /// Forgets members whose lease has ended, and what they owned.
    fn expire(&mut self, now: Timestamp) {
        let Self { leases, owners } = self;
        leases.retain(|_, until| now < *until);
        owners.retain(|_, owner| leases.contains_key(owner));
    }
}

impl MemoryMembers {
    /// No members. Leases run on `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, topics: Mutex::default() }
    }

    fn with<T>(&self, topic: &str, work: impl FnOnce(&mut Topic) -> T) -> T {
        let mut topics: MutexGuard<'_, _> =
            self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(topic.to_owned()).or_default();
        topic.expire(self.clock.now());
        work(topic)
    }
}

#[async_trait]
impl Membership for MemoryMembers {
    async fn heartbeat(
        &self,
        topic: &str,
        member: &str,
        lease_ms: u64,
    ) -> Result<View, StoreError> {
        let until = self.clock.now().plus(Duration::from_millis(lease_ms));
        Ok(self.with(topic, |topic| {
            topic.leases.insert(member.to_owned(), until);
            View { members: topic.leases.keys().cloned().collect(), owners: topic.owners.clone() }
        }))
    }

    async fn claim(
        &self,
        topic: &str,
        partitions: &[Partition],
        member: &str,
    ) -> Result<Vec<Partition>, StoreError> {
        Ok(self.with(topic, |topic| {
            if !topic.leases.contains_key(member) {
                return Vec::new();
            }
            let mut claim = |p: &Partition| {
                topic.owners.entry(*p).or_insert_with(|| member.to_owned()) == member
            };
            partitions.iter().copied().filter(|partition| claim(partition)).collect()
        }))
    }

    async fn release(
        &self,
        topic: &str,
        partitions: &[Partition],
        member: &str,
    ) -> Result<(), StoreError> {
        self.with(topic, |topic| {
            topic
                .owners
                .retain(|partition, owner| owner != member || !partitions.contains(partition));
        });
        Ok(())
    }

    async fn leave(&self, topic: &str, member: &str) -> Result<(), StoreError> {
        self.with(topic, |topic| {
            topic.leases.remove(member);
            topic.owners.retain(|_, owner| owner != member);
        });
        Ok(())
    }
}
