//! Which partitions a member should own: balanced, and moving only what must move. Pure.
//!
//! Every member comes to its own part of the same plan from the same view. Members with views of
//! different instants may plan against each other for a moment; the claim decides then, and the
//! next views agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Partition;
use crate::pipeline::members::View;

/// What a member is to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Partitions to stop and then to release.
    pub(super) release: Vec<Partition>,
    /// Partitions without an owner, to claim.
    pub(super) claim: Vec<Partition>,
}

/// How many partitions each member should own: as many as every other, and one more for as many
/// as it takes, first for those that own more already, then by name.
fn quotas(view: &View, partitions: u32) -> BTreeMap<&str, usize> {
    let mut owned: BTreeMap<&str, usize> =
        view.members.iter().map(|member| (member.as_str(), 0)).collect();
    for owner in view.owners.values() {
        if let Some(count) = owned.get_mut(owner.as_str()) {
            *count += 1;
        }
    }
    let members = owned.len().max(1);
    let (each, more) = (partitions as usize / members, partitions as usize % members);
    let mut order: Vec<_> = owned.into_iter().collect();
    // Stable: the names' order is kept among equals.
    order.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let quota = |at| each + usize::from(at < more);
    order.into_iter().enumerate().map(|(at, (member, _))| (member, quota(at))).collect()
}

/// What `member` is to do. `stopping` are partitions that it owns and has begun to stop: they
/// are the first to be released, so that a plan which is being carried out is not overturned.
pub(super) fn plan(
    view: &View,
    partitions: u32,
    member: &str,
    stopping: &BTreeSet<Partition>,
) -> Plan {
    let quotas = quotas(view, partitions);
    let mut owned: Vec<Partition> =
        view.owners.iter().filter(|(_, owner)| *owner == member).map(|(p, _)| *p).collect();
    let quota = quotas.get(member).copied().unwrap_or(0);
    // What was planned away stays planned away, then the highest go.
    owned.sort_by_key(|partition| (stopping.contains(partition), *partition));
    let release = owned.split_off(quota.min(owned.len()));
    let mut free = (0..partitions).map(Partition).filter(|p| !view.owners.contains_key(p));
    let mut plan = Plan { release, claim: Vec::new() };
    for (other, quota) in quotas {
        let owns = view.owners.values().filter(|owner| *owner == other).count();
        let share = free.by_ref().take(quota.saturating_sub(owns));
        if other == member {
            plan.claim = share.collect();
            break;
        }
        share.for_each(drop);
    }
    plan
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Members `m0..`, and an owner or none for each partition.
    fn views() -> impl Strategy<Value = (View, u32)> {
        (1usize..8, proptest::collection::vec(proptest::option::of(0usize..8), 1..20)).prop_map(
            |(members, owners)| {
                let name = |number: usize| format!("m{number}");
                let partitions = u32::try_from(owners.len()).unwrap();
                let owners = (0..).map(Partition).zip(owners);
                let owners = owners.filter_map(|(partition, owner)| {
                    Some((partition, name(owner.filter(|owner| *owner < members)?)))
                });
                let members = (0..members).map(name).collect();
                (View { members, owners: owners.collect() }, partitions)
            },
        )
    }

    fn counts(view: &View) -> Vec<usize> {
        let owned = |member: &String| view.owners.values().filter(|o| *o == member).count();
        view.members.iter().map(owned).collect()
    }

    /// Every member carries its plan out, one after the other, all from the same view.
    fn round(view: &mut View, partitions: u32) -> usize {
        let seen = view.clone();
        let mut moves = 0;
        for member in &seen.members {
            let plan = plan(&seen, partitions, member, &BTreeSet::new());
            for partition in &plan.release {
                assert_eq!(view.owners.remove(partition).as_ref(), Some(member));
            }
            for partition in &plan.claim {
                let before = view.owners.insert(*partition, member.clone());
                assert_eq!(before, None, "{partition:?} is claimed by two");
            }
            moves += plan.release.len() + plan.claim.len();
        }
        moves
    }

    fn settle(view: &mut View, partitions: u32) -> usize {
        (0..10).find(|_| round(view, partitions) == 0).expect("it never settles")
    }

    fn is_fair(view: &View, partitions: u32) {
        let (members, all) = (view.members.len(), partitions as usize);
        let counts = counts(view);
        assert_eq!(counts.iter().sum::<usize>(), all, "all have an owner: {view:?}");
        assert!(counts.iter().all(|count| (all / members..=all.div_ceil(members)).contains(count)));
    }

    proptest! {
        #[test]
        fn settles_within_two_rounds_and_is_fair((mut view, partitions) in views()) {
            let rounds = settle(&mut view, partitions);
            prop_assert!(rounds <= 2, "{rounds}");
            is_fair(&view, partitions);
        }

        #[test]
        fn a_joining_member_moves_only_what_it_gets((mut view, partitions) in views()) {
            settle(&mut view, partitions);
            let before = view.clone();
            view.members.insert("newcomer".to_owned());
            settle(&mut view, partitions);
            is_fair(&view, partitions);
            let moved = before.owners.iter().filter(|(p, owner)| view.owners[p] != **owner).count();
            prop_assert_eq!(moved, view.owners.values().filter(|o| *o == "newcomer").count());
        }

        #[test]
        fn a_leaving_member_moves_only_what_it_had((mut view, partitions) in views()) {
            settle(&mut view, partitions);
            view.members.insert("last".to_owned());
            settle(&mut view, partitions);
            let before = view.clone();
            view.members.remove("m0");
            view.owners.retain(|_, owner| owner != "m0");
            settle(&mut view, partitions);
            is_fair(&view, partitions);
            for (partition, owner) in before.owners.iter().filter(|(_, owner)| *owner != "m0") {
                prop_assert_eq!(&view.owners[partition], owner);
            }
        }

        /// Members act one at a time on views of different ages; claims decide.
        #[test]
        fn stale_views_converge(
            (mut view, partitions) in views(),
            order in proptest::collection::vec((0usize..8, any::<bool>()), 0..40),
        ) {
            let members: Vec<String> = view.members.iter().cloned().collect();
            let mut seen = view.clone();
            for (who, fresh) in order {
                if fresh {
                    seen = view.clone();
                }
                let member = &members[who % members.len()];
                let plan = plan(&seen, partitions, member, &BTreeSet::new());
                for partition in plan.release {
                    if view.owners.get(&partition) == Some(member) {
                        view.owners.remove(&partition);
                    }
                }
                for partition in plan.claim {
                    view.owners.entry(partition).or_insert_with(|| member.clone());
                }
            }
            settle(&mut view, partitions);
            is_fair(&view, partitions);
        }
    }

    #[test]
    fn more_members_than_partitions_leave_some_idle() {
        let members = ["a", "b", "c"].map(str::to_owned).into();
        let mut view = View { members, owners: BTreeMap::new() };
        settle(&mut view, 2);
        assert_eq!(counts(&view), [1, 1, 0]);
        // The idle one takes over when another is gone, and nothing else moves.
        view.members.remove("a");
        view.owners.retain(|_, owner| owner != "a");
        settle(&mut view, 2);
        assert_eq!(view.owners[&Partition(1)], "b");
        assert_eq!(view.owners[&Partition(0)], "c");
    }

    #[test]
    fn what_is_being_stopped_is_released_first() {
        let owners = (0..4).map(|n| (Partition(n), "a".to_owned())).collect();
        let view = View { members: ["a", "b"].map(str::to_owned).into(), owners };
        let none = plan(&view, 4, "a", &BTreeSet::new());
        assert_eq!(none.release, [Partition(2), Partition(3)]);
        let stopping = BTreeSet::from([Partition(0), Partition(1)]);
        assert_eq!(plan(&view, 4, "a", &stopping).release, [Partition(0), Partition(1)]);
        assert_eq!(plan(&view, 4, "stranger", &BTreeSet::new()), Plan::default());
    }
}
