//! The watches of one symbol that its price keeps crossing.
//!
//! A price that walks goes back and forth over the same thresholds. What it has crossed and come
//! back over is kept here, out of the tree, with the ends of its quiet intervals in order: the
//! next that the price can reach stand last, so that a crossing mostly takes one off the end of
//! one list and puts it at the end of the other.

use super::leaf::NO_ALERT;
use super::policy::{Moment, NEVER, Quiet, Rule};
use super::slot::{Slot, Sweep};
use crate::model::{Condition, PolicyKind, Timestamp, Told, UserId, Version, WatchId, WatchState};

/// The watches kept here, at the most, and those that any symbol may keep.
const LEN_MAX: usize = 512;
const LEN_MIN: usize = 16;

/// One in so many of a symbol's watches may be kept here, which bounds what they take beside
/// their place in the tree to 7 bytes a watch.
const SHARE: usize = 32;

/// Watches that the tree knows the places of, but not their states.
#[derive(Debug, Default)]
pub(super) struct Near {
    ids: Vec<WatchId>,
    /// Of the ids at the same places.
    entries: Vec<Entry>,
    /// Where a rising price leaves the quiet intervals, and where a falling one does.
    highs: Ends,
    lows: Ends,
}

/// A watch without a cooldown, within one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    id: WatchId,
    low: i64,
    high: i64,
    width: i64,
    bucket: i64,
    last_alert: i64,
    user: UserId,
    version: Version,
    state_version: Version,
    kind: PolicyKind,
    told: Option<Condition>,
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
    pub(super) fn get(&self, id: WatchId) -> Option<Slot> {
        let at = self.ids.iter().position(|near| *near == id)?;
        Some(self.entries[at].slot())
    }

    /// Keeps a watch, of which no cooldown runs.
    pub(super) fn add(&mut self, slot: Slot, quiet: Quiet) {
        // LEN_MAX at most.
        let at = self.entries.len() as u16;
        self.lows.add(quiet.low, at);
        self.highs.add(!quiet.high, at);
        self.ids.push(slot.id);
        self.entries.push(Entry::from(&slot));
    }

    /// Gives a watch back.
    pub(super) fn take(&mut self, id: WatchId) -> Option<Slot> {
        let at = self.ids.iter().position(|near| *near == id)?;
        self.ids.swap_remove(at);
        let entry = self.entries.swap_remove(at);
        // The last one has moved to its place.
        let (at, moved) = (at as u16, self.entries.len() as u16);
        for ends in [&mut self.lows, &mut self.highs] {
            ends.0.retain(|(_, other)| *other != at);
            ends.0.iter_mut().filter(|(_, other)| *other == moved).for_each(|end| end.1 = at);
        }
        Some(entry.slot())
    }

    /// The half of the watches that are the farthest from the present price.
    pub(super) fn farthest(&self, at: Moment) -> Vec<WatchId> {
        let distance = |entry: &Entry| {
            let slot = entry.slot();
            let quiet = slot.rule.quiet(&slot.state, at);
            quiet.high.abs_diff(at.price).min(at.price.abs_diff(quiet.low))
        };
        let mut far: Vec<_> =
            self.entries.iter().map(|entry| (distance(entry), entry.id)).collect();
        far.sort_unstable_by(|a, b| b.cmp(a));
        far.truncate(far.len().div_ceil(2));
        far.into_iter().map(|(_, id)| id).collect()
    }

    /// Every watch's id.
    pub(super) fn ids(&self) -> Vec<WatchId> {
        self.ids.clone()
    }

    /// Reads the watch that the price concerns first, for the sake of reading it.
    pub(super) fn read_ahead(&self, price: i64) -> i64 {
        let ends = if !self.highs.next() < price { &self.highs } else { &self.lows };
        let watch = ends.0.last().and_then(|(_, at)| self.entries.get(usize::from(*at)));
        watch.map_or(0, |entry| entry.low)
    }

    /// Evaluates the watches that a tick concerns, in no order; returns whether there are any.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>) -> bool {
        let rising = sweep.rising;
        let (left, other, bound) = if rising {
            (&mut self.highs, &mut self.lows, !sweep.at.price)
        } else {
            (&mut self.lows, &mut self.highs, sweep.at.price)
        };
        let mut any = false;
        while let Some(at) = left.take_beyond(bound) {
            any = true;
            let entry = &mut self.entries[usize::from(at)];
            let mut slot = entry.slot();
            let was = slot.rule.quiet(&slot.state, sweep.before);
            sweep.evaluate(&mut slot);
            let next = slot.rule.quiet(&slot.state, sweep.at);
            *entry = Entry::from(&slot);
            // The price lies within, so this is not found again.
            if rising {
                left.add(!next.high, at);
                other.replace(was.low, next.low, at);
            } else {
                left.add(next.low, at);
                other.replace(!was.high, !next.high, at);
            }
        }
        any
    }
}

impl Entry {
    fn slot(&self) -> Slot {
        let bucket = self.bucket;
        Slot {
            id: self.id,
            user: self.user,
            version: self.version,
            rule: Rule {
                low: self.low,
                high: self.high,
                kind: self.kind,
                width: self.width,
                cooldown_ms: 0,
                paused: false,
            },
            state: WatchState {
                version: self.state_version,
                told: self.told.map_or(Told::Nothing, |condition| Told::Told { condition, bucket }),
                last_alert: Timestamp::from_millis(self.last_alert),
            },
        }
    }
}

impl From<&Slot> for Entry {
    fn from(slot: &Slot) -> Self {
        let Slot { id, user, version, rule, state } = *slot;
        let (told, bucket) = match state.told {
            Told::Nothing => (None, 0),
            Told::Told { condition, bucket } => (Some(condition), bucket),
        };
        Self {
            id,
            low: rule.low,
            high: rule.high,
            width: rule.width,
            bucket,
            last_alert: state.last_alert.map_or(NO_ALERT, Timestamp::millis),
            user,
            version,
            state_version: state.version,
            kind: rule.kind,
            told,
        }
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
        if end == Self::NONE {
            return;
        }
        let first = self.0.partition_point(|(other, _)| *other < end);
        if let Some(place) = self.0[first..].iter().position(|(_, other)| *other == at) {
            self.0.remove(first + place);
        }
    }

    fn replace(&mut self, was: i64, next: i64, at: u16) {
        if was != next {
            self.remove(was, at);
            self.add(next, at);
        }
    }

    /// Takes the last one off if it is greater than `bound`.
    fn take_beyond(&mut self, bound: i64) -> Option<u16> {
        self.0.pop_if(|(end, _)| *end > bound).map(|(_, at)| at)
    }
}
