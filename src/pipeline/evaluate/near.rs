//! The watches of one symbol that its price keeps crossing.
//!
//! A price that walks goes back and forth over the same thresholds. What it has crossed and come
//! back over is kept here, out of the tree, as lines in the order of their prices, with the place
//! of the present price among them: a crossing moves that place over one line, and no line moves.
//!
//! Only watches are kept here for which that is all there is to it: those that tell each crossing,
//! without a hysteresis or a cooldown. What such a watch was told follows from the side of its
//! lines that the price is on.

use super::leaf::NO_ALERT;
use super::policy::{NEVER, Quiet, Rule};
use super::slot::{Slot, Sweep, alert};
use crate::model::{
    AlertId, Condition, LastTick, PolicyKind, Timestamp, Told, UserId, Version, WatchId, WatchState,
};

/// The watches kept here, at the most, and those that any symbol may keep.
const LEN_MAX: usize = 1_024;
const LEN_MIN: usize = 32;

/// One in so many of a symbol's watches may be kept here, which bounds what they take beside
/// their place in the tree to 6 bytes a watch, or 8 where all have two thresholds.
const SHARE: usize = 16;

/// Watches that the tree knows the places of, but not their states.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// From the lowest to the highest.
    lines: Vec<Line>,
    /// How many lines the price is above; they come first.
    above: usize,
    entries: Vec<Entry>,
}

/// A threshold, as the greatest price that is not above it.
#[derive(Clone, Copy, Debug)]
struct Line {
    bound: i64,
    /// The place of the watch.
    entry: u16,
    /// What holds beyond the threshold.
    beyond: Condition,
}

/// What of a watch is not in its lines: two to a cache line.
#[derive(Debug)]
#[repr(align(32))]
struct Entry {
    id: WatchId,
    last_alert: i64,
    user: UserId,
    version: Version,
    state_version: Version,
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
        Quiet {
            low: self.next(false).map_or(i64::MIN, |line| line.bound + 1),
            high: self.next(true).map_or(i64::MAX, |line| line.bound),
            wake: NEVER,
        }
    }

    /// The line that a price comes to first on its way up or down.
    #[inline]
    fn next(&self, rising: bool) -> Option<Line> {
        self.lines.get(self.above.wrapping_sub(usize::from(!rising))).copied()
    }

    /// A watch that is kept here.
    pub(super) fn get(&self, id: WatchId) -> Option<Slot> {
        self.find(id).map(|at| self.slot(at))
    }

    /// Every watch's id.
    pub(super) fn ids(&self) -> Vec<WatchId> {
        self.entries.iter().map(|entry| entry.id).collect()
    }

    fn find(&self, id: WatchId) -> Option<usize> {
        self.entries.iter().position(|near| near.id == id)
    }

    /// The watch at a place.
    fn slot(&self, entry: usize) -> Slot {
        let Entry { id, last_alert, user, version, state_version } = self.entries[entry];
        let (mut low, mut high, mut told) = (i64::MIN, i64::MAX, Told::Nothing);
        let own = |(_, line): &(usize, &Line)| usize::from(line.entry) == entry;
        for (at, line) in self.lines.iter().enumerate().filter(own) {
            let is_beyond = match line.beyond {
                Condition::Above => {
                    high = line.threshold();
                    at < self.above
                }
                Condition::Below => {
                    low = line.threshold();
                    at >= self.above
                }
            };
            if is_beyond {
                told = Told::Told { condition: line.beyond, bucket: 0 };
            }
        }
        let kind = PolicyKind::Crossing;
        let rule = Rule { low, high, kind, width: 0, cooldown_ms: 0, paused: false };
        let last_alert = Timestamp::from_millis(last_alert);
        let state = WatchState { version: state_version, told, last_alert };
        Slot { id, user, version, rule, state }
    }

    /// Keeps a watch that tells each crossing, evaluated at the present price.
    pub(super) fn add(&mut self, slot: &Slot, price: i64) {
        let Slot { id, user, version, rule, state } = *slot;
        // LEN_MAX at most.
        let entry = self.entries.len() as u16;
        let last_alert = state.last_alert.map_or(NO_ALERT, Timestamp::millis);
        self.entries.push(Entry { id, last_alert, user, version, state_version: state.version });
        if rule.low > i64::MIN {
            self.add_line(Line { bound: rule.low - 1, entry, beyond: Condition::Below }, price);
        }
        if rule.high < i64::MAX {
            self.add_line(Line { bound: rule.high, entry, beyond: Condition::Above }, price);
        }
    }

    fn add_line(&mut self, line: Line, price: i64) {
        let at = self.lines.partition_point(|other| other.bound < line.bound);
        self.lines.insert(at, line);
        self.above += usize::from(price > line.bound);
    }

    /// Gives a watch back.
    pub(super) fn take(&mut self, id: WatchId) -> Option<Slot> {
        let at = self.find(id)?;
        let taken = self.slot(at);
        self.entries.swap_remove(at);
        // The last one has moved to its place.
        let (at, moved) = (at as u16, self.entries.len() as u16);
        self.above -= self.lines[..self.above].iter().filter(|line| line.entry == at).count();
        self.lines.retain(|line| line.entry != at);
        self.lines.iter_mut().filter(|line| line.entry == moved).for_each(|line| line.entry = at);
        Some(taken)
    }

    /// The half of the watches that are the farthest from the present price.
    pub(super) fn farthest(&self, price: i64) -> Vec<WatchId> {
        let mut far: Vec<_> = self.entries.iter().map(|entry| (u64::MAX, entry.id)).collect();
        for line in &self.lines {
            let distance = &mut far[usize::from(line.entry)].0;
            *distance = line.bound.abs_diff(price).min(*distance);
        }
        far.sort_unstable_by(|a, b| b.cmp(a));
        far.truncate(far.len().div_ceil(2));
        far.into_iter().map(|(_, id)| id).collect()
    }

    /// Reads the watch that the price concerns first, for the sake of reading it.
    #[inline]
    pub(super) fn read_ahead(&self, rising: bool) -> i64 {
        let entry = self.next(rising).and_then(|line| self.entries.get(usize::from(line.entry)));
        entry.map_or(0, |entry| entry.last_alert)
    }

    /// Evaluates the watches whose lines a tick crosses, in the order of their lines: one that
    /// it crosses both lines of is noted twice. Returns whether there are any.
    #[inline]
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>) -> bool {
        let rising = sweep.rising;
        let mut any = false;
        while let Some(line) = self.next(rising)
            && (sweep.at.price > line.bound) == rising
        {
            any = true;
            self.above = if rising { self.above + 1 } else { self.above - 1 };
            self.entries[usize::from(line.entry)].cross(line, sweep);
        }
        any
    }
}

impl Line {
    fn threshold(&self) -> i64 {
        self.bound + i64::from(self.beyond == Condition::Below)
    }
}

impl Entry {
    /// Tells or re-arms the watch.
    #[inline]
    fn cross(&mut self, line: Line, sweep: &mut Sweep<'_>) {
        let mut told = Told::Nothing;
        let condition = line.beyond;
        if (condition == Condition::Above) == sweep.rising {
            told = Told::Told { condition, bucket: 0 };
            self.last_alert = sweep.at.time;
            let LastTick { time, price } = sweep.tick;
            let id = AlertId { watch: self.id, version: self.version, time, condition };
            let alert = alert(id, self.user, sweep.symbol, price, line.threshold());
            sweep.out.alerts.push(alert);
        }
        let last_alert = Timestamp::from_millis(self.last_alert);
        let state = WatchState { version: self.state_version, told, last_alert };
        sweep.out.states.push((self.id, state));
    }
}
