//! What the groups of a topic have committed: the limit of what retention may drop.

use std::collections::BTreeMap;

use crate::model::{Offset, Partition};
use crate::pipeline::broker::BrokerError;

/// Groups that a topic may have at the most.
const GROUPS_MAX: usize = 1_000;

/// The positions of a topic's groups. A group is known from its first commit to any partition
/// on, and stands at 0 in the others until it commits there too.
#[derive(Debug)]
pub(super) struct Positions {
    partitions: usize,
    groups: BTreeMap<String, Vec<Offset>>,
}

impl Positions {
    /// No groups yet, in a topic of so many partitions.
    pub(super) fn new(partitions: usize) -> Self {
        Self { partitions, groups: BTreeMap::new() }
    }

    /// Moves a group, back too: a later commit counts more than an earlier one. Returns
    /// whether the group is new.
    pub(super) fn set(
        &mut self,
        group: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<bool, BrokerError> {
        let index = partition.0 as usize;
        if let Some(offsets) = self.groups.get_mut(group) {
            if let Some(position) = offsets.get_mut(index) {
                *position = offset;
            }
            return Ok(false);
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(BrokerError::Permanent(format!(
                "expected at most {GROUPS_MAX} groups in a topic, found {group} as one more"
            )));
        }
        let mut offsets = vec![Offset::default(); self.partitions];
        if let Some(position) = offsets.get_mut(index) {
            *position = offset;
        }
        self.groups.insert(group.to_owned(), offsets);
        Ok(true)
    }

    /// Forgets every group but this one, which goes on where the last of them stood if it is new:
    /// nothing that it may still need is dropped. Returns those forgotten.
    pub(super) fn keep(&mut self, group: &str) -> Vec<String> {
        let lowest = |partition| self.floor(Partition(partition)).unwrap_or_default();
        let inherited = (0..).take(self.partitions).map(lowest).collect();
        let mut groups = std::mem::take(&mut self.groups);
        let kept = groups.remove(group).or((!groups.is_empty()).then_some(inherited));
        self.groups.extend(kept.map(|offsets| (group.to_owned(), offsets)));
        groups.into_keys().collect()
    }

    /// The offset that every group has passed, or `None` if there is no group.
    pub(super) fn floor(&self, partition: Partition) -> Option<Offset> {
        self.groups.values().filter_map(|offsets| offsets.get(partition.0 as usize).copied()).min()
    }

    /// Every group's position in a partition.
    pub(super) fn iter(&self, partition: Partition) -> impl Iterator<Item = (&str, Offset)> {
        self.groups.iter().filter_map(move |(group, offsets)| {
            Some((group.as_str(), *offsets.get(partition.0 as usize)?))
        })
    }
}
