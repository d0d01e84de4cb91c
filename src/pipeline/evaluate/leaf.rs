//! Sixteen watches side by side: 52 bytes each, and 32 more where one of them has a parameter
//! that is not the default.

use super::bounds::{FANOUT, extreme, mask, round_down, round_up};
use super::policy::{Moment, NEVER, Quiet, Rule};
use super::slot::{Slot, Sweep};
use crate::model::{
    Condition, LastTick, PolicyKind, Timestamp, Told, UserId, Version, WatchId, WatchState,
};

/// The place of `last_alert` where there is none.
pub(super) const NO_ALERT: i64 = i64::MIN;

const TOLD_ABOVE: u8 = 0b0000_0001;
const TOLD_BELOW: u8 = 0b0000_0010;
const STEP: u8 = 0b0000_0100;
const ONCE: u8 = 0b0000_1000;
const PAUSED: u8 = 0b0001_0000;
/// Kept by price elsewhere, with its state: always quiet here.
const NEAR: u8 = 0b0010_0000;

/// What most watches don't need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rare {
    width: i64,
    cooldown_ms: i64,
    bucket: i64,
    /// How far the state's version is ahead of the watch's: an evaluator that knew a newer
    /// watch may have made it.
    ahead: u32,
}

/// What every watch has, together and within a cache line.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    low: i64,
    high: i64,
    last_alert: i64,
    version: u32,
    user: u32,
}

/// Watches in the order of their ids.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Leaf {
    /// The quiet interval of each watch, never wider than the exact one: a watch outside of it
    /// is looked at exactly. What is not a watch is always quiet.
    quiet_high: [f32; FANOUT],
    quiet_low: [f32; FANOUT],
    /// The greatest of all where no watch is.
    ids: [u64; FANOUT],
    records: [Record; FANOUT],
    flags: [u8; FANOUT],
    rare: Option<Box<[Rare; FANOUT]>>,
    len: u8,
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self {
            quiet_high: [f32::INFINITY; FANOUT],
            quiet_low: [f32::NEG_INFINITY; FANOUT],
            ids: [u64::MAX; FANOUT],
            records: [Record::default(); FANOUT],
            flags: [0; FANOUT],
            rare: None,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn first_id(&self) -> u64 {
        self.ids[0]
    }

    /// Where a watch is, or else where it would be.
    pub(super) fn find(&self, id: u64) -> Result<usize, usize> {
        // Without a branch: what comes of it can't be foretold.
        let at = self.ids.iter().map(|earlier| usize::from(*earlier < id)).sum();
        if at < self.len() && self.ids[at] == id { Ok(at) } else { Err(at) }
    }

    /// Reads the lines that a change of a watch touches, for the sake of reading them.
    pub(super) fn read_ahead(&self, id: u64) -> u64 {
        let (Ok(at) | Err(at)) = self.find(id);
        let record = self.records.get(at).map_or(0, |record| record.user);
        let bounds = self.quiet_low[0].to_bits() ^ self.quiet_high[0].to_bits();
        u64::from(record ^ bounds)
    }

    /// Whether the watch at a place is kept by price elsewhere.
    pub(super) fn is_near(&self, at: usize) -> bool {
        self.flags[at] & NEAR != 0
    }

    /// The watch at a place.
    pub(super) fn slot(&self, at: usize) -> Slot {
        let rare = self.rare.as_ref().map_or(Rare::default(), |rare| rare[at]);
        let flags = self.flags[at];
        let record = &self.records[at];
        let told = |condition| Told::Told { condition, bucket: rare.bucket };
        Slot {
            id: WatchId(self.ids[at]),
            user: UserId(record.user),
            version: Version(record.version),
            rule: Rule {
                low: record.low,
                high: record.high,
                kind: match flags & (STEP | ONCE) {
                    STEP => PolicyKind::Step,
                    ONCE => PolicyKind::Once,
                    _ => PolicyKind::Crossing,
                },
                width: rare.width,
                cooldown_ms: rare.cooldown_ms,
                paused: flags & PAUSED != 0,
            },
            state: WatchState {
                version: Version(record.version.saturating_add(rare.ahead)),
                told: match flags & (TOLD_ABOVE | TOLD_BELOW) {
                    TOLD_ABOVE => told(Condition::Above),
                    TOLD_BELOW => told(Condition::Below),
                    _ => Told::Nothing,
                },
                // No time that can be written is NO_ALERT.
                last_alert: Timestamp::from_millis(record.last_alert),
            },
        }
    }

    /// Puts a watch in the place of the one that is there.
    pub(super) fn set(&mut self, at: usize, slot: &Slot, last: Option<LastTick>) {
        let Slot { id, user, version, rule, state } = slot;
        self.ids[at] = id.0;
        self.records[at] = Record {
            low: rule.low,
            high: rule.high,
            last_alert: NO_ALERT,
            version: version.0,
            user: user.0,
        };
        let rare = Rare {
            width: rule.width,
            cooldown_ms: rule.cooldown_ms,
            bucket: 0,
            ahead: state.version.0.saturating_sub(version.0),
        };
        if self.rare.is_some() || rare != Rare::default() {
            self.rare.get_or_insert_default()[at] = rare;
        }
        self.flags[at] = match rule.kind {
            PolicyKind::Crossing => 0,
            PolicyKind::Step => STEP,
            PolicyKind::Once => ONCE,
        } | if rule.paused { PAUSED } else { 0 };
        self.set_state(at, state);
        self.set_quiet(at, slot.quiet(last));
    }

    fn set_state(&mut self, at: usize, state: &WatchState) {
        let (told, bucket) = match state.told {
            Told::Nothing => (0, 0),
            Told::Told { condition: Condition::Above, bucket } => (TOLD_ABOVE, bucket),
            Told::Told { condition: Condition::Below, bucket } => (TOLD_BELOW, bucket),
        };
        self.flags[at] = self.flags[at] & !(TOLD_ABOVE | TOLD_BELOW) | told;
        self.records[at].last_alert = state.last_alert.map_or(NO_ALERT, |time| time.millis());
        // Only `step` tells other buckets than 0, and its width is never the default 0, so
        // where a bucket is needed there is a place for it.
        if let Some(rare) = &mut self.rare {
            rare[at].bucket = bucket;
        }
    }

    fn set_quiet(&mut self, at: usize, quiet: Quiet) {
        self.quiet_low[at] = round_up(quiet.low);
        self.quiet_high[at] = round_down(quiet.high);
    }

    fn set_near(&mut self, at: usize) {
        self.flags[at] |= NEAR;
        self.set_quiet(at, Quiet::ALWAYS);
    }

    /// Makes room at a place; the caller sets it. There must be some left.
    fn open(&mut self, at: usize) {
        let moved = at..self.len();
        self.quiet_low.copy_within(moved.clone(), at + 1);
        self.quiet_high.copy_within(moved.clone(), at + 1);
        self.ids.copy_within(moved.clone(), at + 1);
        self.flags.copy_within(moved.clone(), at + 1);
        self.records.copy_within(moved.clone(), at + 1);
        if let Some(rare) = &mut self.rare {
            rare.copy_within(moved, at + 1);
        }
        self.len += 1;
    }

    /// Takes the watch at a place out.
    pub(super) fn remove(&mut self, at: usize) {
        let moved = at + 1..self.len();
        self.quiet_low.copy_within(moved.clone(), at);
        self.quiet_high.copy_within(moved.clone(), at);
        self.ids.copy_within(moved.clone(), at);
        self.flags.copy_within(moved.clone(), at);
        self.records.copy_within(moved.clone(), at);
        if let Some(rare) = &mut self.rare {
            rare.copy_within(moved, at);
        }
        self.truncate(self.len() - 1);
    }

    fn truncate(&mut self, len: usize) {
        self.quiet_low[len..].fill(f32::NEG_INFINITY);
        self.quiet_high[len..].fill(f32::INFINITY);
        self.ids[len..].fill(u64::MAX);
        // FANOUT at most.
        self.len = len as u8;
    }

    /// Adds a watch at its place; returns the leaf after this one if it had to be split.
    pub(super) fn insert(
        &mut self,
        at: usize,
        slot: &Slot,
        last: Option<LastTick>,
    ) -> Option<Box<Self>> {
        if self.len() < FANOUT {
            self.open(at);
            self.set(at, slot, last);
            return None;
        }
        // Ids grow, so a watch mostly comes last: then this leaf stays full.
        let kept = if at == FANOUT { FANOUT } else { FANOUT / 2 };
        let mut next = Box::new(Self::new());
        next.append(self, kept, last);
        self.truncate(kept);
        if at <= kept && kept < FANOUT {
            self.open(at);
            self.set(at, slot, last);
        } else {
            next.open(at - kept);
            next.set(at - kept, slot, last);
        }
        Some(next)
    }

    /// Copies the watches of a later leaf, from a place on, to the end of this one.
    pub(super) fn append(&mut self, later: &Self, from: usize, last: Option<LastTick>) {
        for from in from..later.len() {
            let at = self.len();
            self.len += 1;
            self.set(at, &later.slot(from), last);
            if later.is_near(from) {
                self.set_near(at);
            }
        }
    }

    /// Changes every watch.
    pub(super) fn rewrite(&mut self, last: Option<LastTick>, change: &mut dyn FnMut(&mut Slot)) {
        for at in 0..self.len() {
            let mut slot = self.slot(at);
            change(&mut slot);
            self.set(at, &slot, last);
        }
    }

    /// Evaluates the watches that a tick concerns: all of them when one's cooldown is over.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>, woken: bool) -> Quiet {
        let mut concerned = if woken {
            (1 << self.len) - 1
        } else if sweep.rising {
            let price = round_up(sweep.at.price);
            mask(&self.quiet_high, |high| high < price)
        } else {
            let price = round_down(sweep.at.price);
            mask(&self.quiet_low, |low| low > price)
        };
        while concerned != 0 {
            let at = concerned.trailing_zeros() as usize;
            concerned &= concerned - 1;
            if self.is_near(at) {
                continue;
            }
            let mut slot = self.slot(at);
            let told = slot.state.told != Told::Nothing;
            let changed = sweep.evaluate(&mut slot);
            let quiet = slot.rule.quiet(&slot.state, sweep.at);
            if changed && told && sweep.takes(&slot) {
                self.set_near(at);
                continue;
            }
            if changed {
                self.set_state(at, &slot.state);
            }
            self.set_quiet(at, quiet);
        }
        self.quiet(Some(sweep.tick))
    }

    /// What stays quiet for all the watches, exactly.
    ///
    /// Rounding keeps the order, so the exact extreme is one of those whose rounded bound is
    /// extreme: only these, mostly one, are worked out.
    pub(super) fn quiet(&self, last: Option<LastTick>) -> Quiet {
        let Some(last) = last else { return Quiet::NOT };
        let low = extreme(&self.quiet_low, |a, b| if a > b { a } else { b });
        let high = extreme(&self.quiet_high, |a, b| if a < b { a } else { b });
        let mut tied = 0;
        if low > f32::NEG_INFINITY {
            tied |= mask(&self.quiet_low, |bound| bound == low);
        }
        if high < f32::INFINITY {
            tied |= mask(&self.quiet_high, |bound| bound == high);
        }
        let at = Moment::from(last);
        let mut quiet = Quiet { wake: self.wake(at.time), ..Quiet::ALWAYS };
        while tied != 0 {
            let slot = self.slot(tied.trailing_zeros() as usize);
            tied &= tied - 1;
            quiet = quiet.and(slot.rule.quiet(&slot.state, at));
        }
        quiet
    }

    /// When the first cooldown that runs is over. One that holds nothing back, because its
    /// watch is paused or done, costs a look at its end and no more.
    fn wake(&self, time: i64) -> i64 {
        let Some(rare) = &self.rare else { return NEVER };
        (0..self.len())
            .filter(|at| rare[*at].cooldown_ms > 0)
            .map(|at| self.records[at].last_alert.saturating_add(rare[at].cooldown_ms))
            .filter(|end| *end > time)
            .fold(NEVER, i64::min)
    }
}
