//! The watches of one symbol: a tree by watch id, and beside it those that the price keeps
//! crossing, by price.
//!
//! Ordered by id, because alerts of one tick are made by watch id: a tick's way through the
//! tree is that order, without a sort, and the tree is the index by id as well.

use super::near::Near;
use super::node::{Next, Node};
use super::policy::Quiet;
use super::slot::{Slot, Sweep};
use crate::model::{LastTick, Told, WatchId, WatchState};

/// The watches of one symbol.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Tree {
    /// What stays quiet for the watches that are not near.
    rest: Quiet,
    /// Not behind a pointer: that would be one more wait for memory in each crossing.
    near: Near,
    root: Option<Node>,
    /// How many nodes are above each leaf.
    height: usize,
    len: usize,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: None, rest: Quiet::ALWAYS, near: Near::default(), height: 0, len: 0 }
    }
}

impl Tree {
    /// A watch's slot.
    pub(super) fn get(&self, id: WatchId) -> Option<Slot> {
        if let Some(slot) = self.near.get(id) {
            return Some(slot);
        }
        self.root.as_ref()?.get(id.0)
    }

    /// The node above all of those that are not near, and how many are above each leaf.
    pub(super) fn root(&self) -> Option<(&Node, usize)> {
        Some((self.root.as_ref()?, self.height))
    }

    /// Adds a watch or replaces the one of its id by what `next` makes of it; `None` changes
    /// nothing.
    pub(super) fn put(&mut self, id: WatchId, last: Option<LastTick>, next: Next<'_>) {
        self.bring_back(id, last);
        let mut added = false;
        self.put_far(id, last, &mut |held| {
            let slot = next(held);
            added = held.is_none() && slot.is_some();
            slot
        });
        self.len += usize::from(added);
    }

    fn put_far(&mut self, id: WatchId, last: Option<LastTick>, next: Next<'_>) {
        let mut root = self.root.take().unwrap_or_else(Node::new);
        if let Some(later) = root.put(id.0, last, next) {
            root = Node::above(root, later, last);
            self.height += 1;
        }
        self.root = (root.len() > 0).then_some(root);
        self.look_at_rest(last);
    }

    fn look_at_rest(&mut self, last: Option<LastTick>) {
        self.rest = self.root.as_ref().map_or(Quiet::ALWAYS, |root| root.quiet(last));
    }

    /// Puts a watch that is near back into the tree.
    fn bring_back(&mut self, id: WatchId, last: Option<LastTick>) {
        // The tree is asked first, because what is near is not ordered by id.
        if self.near.len() > 0
            && self.root.as_ref().is_some_and(|root| root.is_near(id.0))
            && let Some(slot) = self.near.take(id)
        {
            self.put_far(id, last, &mut |_| Some(slot));
        }
    }

    /// Takes a watch out; returns whether it was there.
    pub(super) fn remove(&mut self, id: WatchId, last: Option<LastTick>) -> bool {
        self.bring_back(id, last);
        let Some(root) = &mut self.root else { return false };
        let removed = root.remove(id.0, last);
        self.len -= usize::from(removed);
        if root.len() == 0 {
            (self.root, self.height) = (None, 0);
        } else if let Some(only) = root.take_only_kid() {
            self.root = Some(only);
            self.height -= 1;
        }
        self.look_at_rest(last);
        removed
    }

    /// Changes every watch.
    pub(super) fn rewrite(&mut self, last: Option<LastTick>, mut change: impl FnMut(&mut Slot)) {
        for id in self.near.ids() {
            self.bring_back(id, last);
        }
        if let Some(root) = &mut self.root {
            root.rewrite(last, &mut change);
        }
        self.look_at_rest(last);
    }

    /// Evaluates the watches that a tick concerns, by id. Returns what stays quiet after it.
    /// `woken` is whether a cooldown may be over.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>, woken: bool) -> Quiet {
        let (alerts, states) = (sweep.out.alerts.len(), sweep.out.states.len());
        let mixed = self.near.sweep(sweep);
        let price = sweep.at.price;
        if woken || price < self.rest.low || price > self.rest.high {
            self.sweep_rest(sweep, woken);
        }
        if mixed && sweep.out.states.len() > states + 1 {
            sweep.out.alerts[alerts..].sort_unstable_by_key(|alert| alert.id.watch);
            keep_last(&mut sweep.out.states, states);
        }
        self.quiet()
    }

    /// Reads what a price that leaves the quiet interval touches first, for the sake of reading
    /// it: what it returns says nothing.
    #[inline]
    pub(super) fn read_ahead(&self, rising: bool) -> i64 {
        self.rest.low ^ self.near.read_ahead(rising)
    }

    fn sweep_rest(&mut self, sweep: &mut Sweep<'_>, woken: bool) {
        let Some(root) = &mut self.root else { return };
        sweep.room = Near::len_max(self.len).saturating_sub(self.near.len());
        self.rest = root.sweep(sweep, woken);
        if sweep.near.is_empty() {
            return;
        }
        for slot in sweep.near.drain(..) {
            self.near.add(&slot, sweep.at.price);
        }
        if self.near.len() >= Near::len_max(self.len) {
            for id in self.near.farthest(sweep.at.price) {
                self.bring_back(id, Some(sweep.tick));
            }
        }
    }

    /// What stays quiet for all the watches.
    pub(super) fn quiet(&self) -> Quiet {
        self.rest.and(self.near.quiet())
    }
}

/// Sorts the states from a place on by watch, and leaves one of each: a watch that stands there
/// twice was re-armed on the price's way to its other threshold, where it told.
fn keep_last(states: &mut Vec<(WatchId, WatchState)>, from: usize) {
    let key = |(watch, state): &(WatchId, WatchState)| (*watch, state.told != Told::Nothing);
    states[from..].sort_unstable_by_key(key);
    let mut kept = from;
    for at in from..states.len() {
        if states.get(at + 1).is_none_or(|(later, _)| *later != states[at].0) {
            states[kept] = states[at];
            kept += 1;
        }
    }
    states.truncate(kept);
}

#[cfg(test)]
impl Tree {
    /// Every watch, after checking what the nodes know of their kids.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        if let Some(root) = &self.root {
            root.collect(&mut slots);
        }
        let top = self.root.as_ref().and_then(|root| root.kid(0));
        assert_eq!(std::iter::successors(top, |node| node.kid(0)).count(), self.height);
        assert_eq!(slots.len(), self.len);
        for slot in &mut slots {
            *slot = self.near.get(slot.id).unwrap_or(*slot);
        }
        slots
    }
}
