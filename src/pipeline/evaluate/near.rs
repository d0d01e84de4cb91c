//! The watches of one symbol that its price keeps crossing.
//!
//! A price that walks goes back and forth over the same thresholds. What it has crossed and come
//! back over is kept here, out of the tree, with the ends of its quiet intervals in order: the
//! next that the price can reach stand last, so that a crossing mostly takes one off the end of
//! one list and puts it at the end of the other.

use super::policy::{NEVER, Quiet};
use super::slot::{Slot, Sweep};
use crate::model::WatchId;

/// The watches kept here, at the most, and those that any symbol may keep.
const LEN_MAX: usize = 512;
const LEN_MIN: usize = 16;

/// One in so many of a symbol's watches may be kept here, which bounds what they take beside
/// their place in the tree to 5 bytes a watch.
const SHARE: usize = 32;

/// Watches that the tree knows the places of, but not their states.
#[derive(Debug, Default)]
pub(super) struct Near {
    entries: Vec<Entry>,
    /// Where a rising price leaves the quiet intervals, and where a falling one does.
    highs: Ends,
    lows: Ends,
    /// Kept for its memory.
    due: Vec<u16>,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    quiet: Quiet,
}

impl Near {
    /// How many watches may be kept here of a symbol that has `watches`.
    pub(super) fn len_max(watches: usize) -> usize {
        (watches / SHARE).clamp(LEN_MIN, LEN_MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What stays quiet for all the watches that are kept here.
    pub(super) fn quiet(&self) -> Quiet {
        Quiet { low: self.lows.next(), high: !self.highs.next(), wake: NEVER }
    }

    /// A watch that is kept here.
    pub(super) fn get(&self, id: WatchId) -> Option<&Slot> {
        self.entries.iter().map(|entry| &entry.slot).find(|slot| slot.id == id)
    }

    /// Keeps a watch, of which no cooldown runs.
    pub(super) fn add(&mut self, slot: Slot, quiet: Quiet) {
        // LEN_MAX at most.
        let at = self.entries.len() as u16;
        self.lows.add(quiet.low, at);
        self.highs.add(!quiet.high, at);
        self.entries.push(Entry { slot, quiet });
    }

    /// Gives a watch back.
    pub(super) fn take(&mut self, id: WatchId) -> Option<Slot> {
        let at = self.entries.iter().position(|entry| entry.slot.id == id)?;
        let Entry { slot, quiet } = self.entries.swap_remove(at);
        self.lows.remove(quiet.low, at as u16);
        self.highs.remove(!quiet.high, at as u16);
        if let Some(moved) = self.entries.get(at) {
            let (low, high, was) = (moved.quiet.low, !moved.quiet.high, self.entries.len() as u16);
            self.lows.remove(low, was);
            self.lows.add(low, at as u16);
            self.highs.remove(high, was);
            self.highs.add(high, at as u16);
        }
        Some(slot)
    }

    /// The half of the watches that are the farthest from a price.
    pub(super) fn farthest(&self, price: i64) -> Vec<WatchId> {
        let distance = |quiet: &Quiet| quiet.high.abs_diff(price).min(price.abs_diff(quiet.low));
        let far = self.entries.iter().map(|entry| (distance(&entry.quiet), entry.slot.id));
        let mut far: Vec<_> = far.collect();
        far.sort_unstable_by(|a, b| b.cmp(a));
        far.truncate(far.len().div_ceil(2));
        far.into_iter().map(|(_, id)| id).collect()
    }

    /// Every watch's id.
    pub(super) fn ids(&self) -> Vec<WatchId> {
        self.entries.iter().map(|entry| entry.slot.id).collect()
    }

    /// Evaluates the watches that a tick concerns, in no order; returns whether there are any.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>) -> bool {
        let price = sweep.at.price;
        if sweep.rising {
            self.highs.take_over(!price, &mut self.due);
        } else {
            self.lows.take_over(price, &mut self.due);
        }
        for at in &self.due {
            let Entry { slot, quiet } = &mut self.entries[usize::from(*at)];
            sweep.evaluate(slot);
            let next = slot.rule.quiet(&slot.state, sweep.at);
            let was = std::mem::replace(quiet, next);
            // The end that was left has been taken off its list already.
            if sweep.rising {
                self.highs.add(!next.high, *at);
                self.lows.replace(was.low, next.low, *at);
            } else {
                self.lows.add(next.low, *at);
                self.highs.replace(!was.high, !next.high, *at);
            }
        }
        let any = !self.due.is_empty();
        self.due.clear();
        any
    }
}

/// One end of each watch's quiet interval, with the watch's place, in order: the one that the
/// price comes to next is the greatest. Upper ends are noted as their complement for that.
#[derive(Debug, Default)]
struct Ends(Vec<(i64, u16)>);

impl Ends {
    /// No end at all; also the complement of no upper end.
    const NONE: i64 = i64::MIN;

    fn next(&self) -> i64 {
        self.0.last().map_or(Self::NONE, |(end, _)| *end)
    }

    fn add(&mut self, end: i64, at: u16) {
        if end == Self::NONE {
            return;
        }
        if self.next() <= end {
            self.0.push((end, at));
        } else {
            let place = self.0.partition_point(|(other, _)| *other <= end);
            self.0.insert(place, (end, at));
        }
    }

    fn remove(&mut self, end: i64, at: u16) {
        let first = self.0.partition_point(|(other, _)| *other < end);
        let place = self.0[first..].iter().position(|(_, other)| *other == at);
        if let Some(place) = place.filter(|_| end != Self::NONE) {
            self.0.remove(first + place);
        }
    }

    fn replace(&mut self, was: i64, next: i64, at: u16) {
        if was != next {
            self.remove(was, at);
            self.add(next, at);
        }
    }

    /// Takes off the ends that are greater than `bound`.
    fn take_over(&mut self, bound: i64, taken: &mut Vec<u16>) {
        while let Some((_, at)) = self.0.pop_if(|(end, _)| *end > bound) {
            taken.push(at);
        }
    }
}
