//! A B+tree of watches by id that knows, for each of its nodes, what stays quiet for all the
//! watches below.

use super::bounds::{FANOUT, exact_mask};
use super::leaf::Leaf;
use super::policy::Quiet;
use super::slot::{Slot, Sweep};
use crate::model::LastTick;

/// Neighbours that have no more kids than this together become one: less than a full node,
/// so that the next insertion does not split it again.
const MERGED_MAX: usize = FANOUT * 3 / 4;

/// What becomes of a watch, or of its absence.
pub(super) type Next<'a> = &'a mut dyn FnMut(Option<Slot>) -> Option<Slot>;

/// Watches in the order of their ids.
#[derive(Debug)]
pub(super) enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

/// A node above others, all of one height; the arrays beside the kids spare a look into them.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Inner {
    /// What stays quiet below each kid: prices within, until `wakes`.
    highs: [i64; FANOUT],
    lows: [i64; FANOUT],
    wakes: [i64; FANOUT],
    kids: [Option<Node>; FANOUT],
    /// The first watch of each kid.
    ids: [u64; FANOUT],
    /// What stays quiet below all kids.
    quiet: Quiet,
    len: usize,
}

impl Node {
    /// A leaf without watches.
    pub(super) fn new() -> Self {
        Self::Leaf(Box::new(Leaf::new()))
    }

    /// A node above two neighbours of one height.
    pub(super) fn above(first: Self, later: Self, last: Option<LastTick>) -> Self {
        let mut above = Inner::new();
        above.insert(0, first, last);
        above.insert(1, later, last);
        Self::Inner(Box::new(above))
    }

    /// The node below, if there is but one.
    pub(super) fn take_only_kid(&mut self) -> Option<Self> {
        match self {
            Self::Inner(inner) if inner.len == 1 => inner.kids[0].take(),
            _ => None,
        }
    }

    /// A watch's slot.
    pub(super) fn get(&self, id: u64) -> Option<Slot> {
        self.find(id).map(|(leaf, at)| leaf.slot(at))
    }

    /// Whether a watch is kept by price elsewhere.
    pub(super) fn is_near(&self, id: u64) -> bool {
        self.find(id).is_some_and(|(leaf, at)| leaf.is_near(at))
    }

    /// The leaf of a watch, and the watch's place in it.
    fn find(&self, id: u64) -> Option<(&Leaf, usize)> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => return leaf.find(id).ok().map(|at| (&**leaf, at)),
                Self::Inner(inner) => node = inner.kids[inner.find(id)].as_ref()?,
            }
        }
    }

    /// The node below in which a watch is, or would be; none is below a leaf.
    pub(super) fn kid(&self, id: u64) -> Option<&Self> {
        match self {
            Self::Leaf(_) => None,
            Self::Inner(inner) => inner.kids[inner.find_unbounded(id)].as_ref(),
        }
    }

    /// Reads what a change of a watch touches in its leaf, for the sake of reading it.
    pub(super) fn read_ahead(&self, id: u64) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.read_ahead(id),
            Self::Inner(_) => 0,
        }
    }

    /// How many watches a leaf holds, or nodes there are directly below.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.len(),
            Self::Inner(inner) => inner.len,
        }
    }

    fn first_id(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.first_id(),
            Self::Inner(inner) => inner.ids[0],
        }
    }

    /// What stays quiet for all the watches.
    pub(super) fn quiet(&self, last: Option<LastTick>) -> Quiet {
        match self {
            Self::Leaf(leaf) => leaf.quiet(last),
            Self::Inner(inner) => inner.quiet,
        }
    }

    /// Adds a watch or replaces the one of its id by what `next` makes of it; `None` changes
    /// nothing. Returns the node after this one if it had to be split.
    pub(super) fn put(&mut self, id: u64, last: Option<LastTick>, next: Next<'_>) -> Option<Self> {
        match self {
            Self::Leaf(leaf) => match leaf.find(id) {
                Ok(at) => {
                    leaf.set(at, &next(Some(leaf.slot(at)))?, last);
                    None
                }
                Err(at) => leaf.insert(at, &next(None)?, last).map(Self::Leaf),
            },
            Self::Inner(inner) => {
                let at = inner.find(id);
                let later = inner.kids[at].as_mut().and_then(|kid| kid.put(id, last, next));
                inner.refresh(at, last);
                inner.insert(at + 1, later?, last).map(Self::Inner)
            }
        }
    }

    /// Takes a watch out; returns whether it was there.
    pub(super) fn remove(&mut self, id: u64, last: Option<LastTick>) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.find(id).map(|at| leaf.remove(at)).is_ok(),
            Self::Inner(inner) => {
                let at = inner.find(id);
                let removed = inner.kids[at].as_mut().is_some_and(|kid| kid.remove(id, last));
                if removed {
                    inner.shrink(at, last);
                }
                removed
            }
        }
    }

    /// Takes over what a later neighbour of the same height holds.
    fn absorb(&mut self, later: Self, last: Option<LastTick>) {
        match (self, later) {
            (Self::Leaf(leaf), Self::Leaf(later)) => leaf.append(&later, 0, last),
            (Self::Inner(inner), Self::Inner(mut later)) => inner.append(&mut later, 0, last),
            _ => {} // Kids of one node are of one height.
        }
    }

    /// Changes every watch.
    pub(super) fn rewrite(&mut self, last: Option<LastTick>, change: &mut dyn FnMut(&mut Slot)) {
        match self {
            Self::Leaf(leaf) => leaf.rewrite(last, change),
            Self::Inner(inner) => {
                for at in 0..inner.len {
                    if let Some(kid) = &mut inner.kids[at] {
                        kid.rewrite(last, change);
                    }
                    inner.refresh(at, last);
                }
            }
        }
    }

    /// Evaluates the watches that a tick concerns, by id. Returns what stays quiet after it.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>, woken: bool) -> Quiet {
        match self {
            Self::Leaf(leaf) => leaf.sweep(sweep, woken),
            Self::Inner(inner) => inner.sweep(sweep, woken),
        }
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            highs: [i64::MAX; FANOUT],
            lows: [i64::MIN; FANOUT],
            wakes: [i64::MAX; FANOUT],
            kids: [const { None }; FANOUT],
            ids: [u64::MAX; FANOUT],
            quiet: Quiet::ALWAYS,
            len: 0,
        }
    }

    /// The kid below which a watch is, or would be.
    fn find(&self, id: u64) -> usize {
        self.find_unbounded(id).min(self.len.saturating_sub(1))
    }

    /// The same without a look at how many kids there are, which is on another cache line.
    fn find_unbounded(&self, id: u64) -> usize {
        // Without a branch: which kid it is can't be foretold. Where no kid is, it says MAX.
        let before: usize = self.ids.iter().map(|first| usize::from(*first <= id)).sum();
        before.saturating_sub(1)
    }

    /// Notes what stays quiet below a kid. The rest is looked through again only where the
    /// kid's old bound may have been the one that counted.
    fn set_quiet(&mut self, at: usize, quiet: Quiet) {
        let (low, high, wake) = (self.lows[at], self.highs[at], self.wakes[at]);
        (self.lows[at], self.highs[at], self.wakes[at]) = (quiet.low, quiet.high, quiet.wake);
        if quiet.low >= self.quiet.low {
            self.quiet.low = quiet.low;
        } else if low == self.quiet.low {
            self.quiet.low = self.lows.iter().copied().fold(i64::MIN, i64::max);
        }
        if quiet.high <= self.quiet.high {
            self.quiet.high = quiet.high;
        } else if high == self.quiet.high {
            self.quiet.high = self.highs.iter().copied().fold(i64::MAX, i64::min);
        }
        if quiet.wake <= self.quiet.wake {
            self.quiet.wake = quiet.wake;
        } else if wake == self.quiet.wake {
            self.quiet.wake = self.wakes.iter().copied().fold(i64::MAX, i64::min);
        }
    }

    /// Brings what is known of a kid up to date.
    fn refresh(&mut self, at: usize, last: Option<LastTick>) {
        if let Some(kid) = &self.kids[at] {
            self.ids[at] = kid.first_id();
            let quiet = kid.quiet(last);
            self.set_quiet(at, quiet);
        }
    }

    /// Adds a kid; returns the node after this one if it had to be split.
    fn insert(&mut self, at: usize, kid: Node, last: Option<LastTick>) -> Option<Box<Self>> {
        if self.len < FANOUT {
            self.open(at, kid, last);
            return None;
        }
        // As with leaves: what grows at its end stays full.
        let kept = if at == FANOUT { FANOUT } else { FANOUT / 2 };
        let mut next = Box::new(Self::new());
        next.append(self, kept, last);
        if at <= kept && kept < FANOUT {
            self.open(at, kid, last);
        } else {
            next.open(at - kept, kid, last);
        }
        Some(next)
    }

    /// Puts a kid in; there must be room.
    fn open(&mut self, at: usize, kid: Node, last: Option<LastTick>) {
        let moved = at..self.len;
        self.lows.copy_within(moved.clone(), at + 1);
        self.highs.copy_within(moved.clone(), at + 1);
        self.wakes.copy_within(moved.clone(), at + 1);
        self.ids.copy_within(moved, at + 1);
        self.kids[at..=self.len].rotate_right(1);
        self.kids[at] = Some(kid);
        self.len += 1;
        // What was moved away from here is still noted, one place on.
        self.refresh(at, last);
    }

    /// Takes a kid out.
    fn close(&mut self, at: usize) -> Option<Node> {
        let kid = self.kids[at].take();
        let moved = at + 1..self.len;
        // The kid's bounds go while they still stand in its place.
        self.set_quiet(at, Quiet::ALWAYS);
        self.lows.copy_within(moved.clone(), at);
        self.highs.copy_within(moved.clone(), at);
        self.wakes.copy_within(moved.clone(), at);
        self.ids.copy_within(moved, at);
        self.kids[at..self.len].rotate_left(1);
        self.len -= 1;
        (self.lows[self.len], self.highs[self.len]) = (i64::MIN, i64::MAX);
        (self.wakes[self.len], self.ids[self.len]) = (i64::MAX, u64::MAX);
        kid
    }

    /// Moves a later node's kids, from a place on, to the end of this one.
    fn append(&mut self, later: &mut Self, from: usize, last: Option<LastTick>) {
        while later.len > from {
            if let Some(kid) = later.close(from) {
                self.open(self.len, kid, last);
            }
        }
    }

    /// After a removal below a kid: drops it if it is empty, or joins it with a neighbour.
    fn shrink(&mut self, at: usize, last: Option<LastTick>) {
        let len = |at: usize| self.kids.get(at).and_then(Option::as_ref).map_or(0, Node::len);
        if len(at) == 0 {
            self.close(at);
            return;
        }
        // Most are too full to be joined with any, so the neighbours need no look.
        let some = len(at) < MERGED_MAX;
        let fits =
            |left: usize| some && left + 1 < self.len && len(left) + len(left + 1) <= MERGED_MAX;
        let left = if fits(at) { Some(at) } else { at.checked_sub(1).filter(|left| fits(*left)) };
        if let Some(left) = left
            && let Some(later) = self.close(left + 1)
        {
            if let Some(kid) = &mut self.kids[left] {
                kid.absorb(later, last);
            }
            self.refresh(left, last);
        } else {
            self.refresh(at, last);
        }
    }

    fn sweep(&mut self, sweep: &mut Sweep<'_>, woken: bool) -> Quiet {
        let at = sweep.at;
        let outside = if sweep.rising {
            exact_mask(&self.highs, |high| high < at.price)
        } else {
            exact_mask(&self.lows, |low| low > at.price)
        };
        let woken = if woken { exact_mask(&self.wakes, |wake| wake <= at.time) } else { 0 };
        let mut concerned = outside | woken;
        while concerned != 0 {
            let kid = concerned.trailing_zeros() as usize;
            concerned &= concerned - 1;
            if let Some(node) = &mut self.kids[kid] {
                let quiet = node.sweep(sweep, woken >> kid & 1 != 0);
                self.set_quiet(kid, quiet);
            }
        }
        self.quiet
    }
}

#[cfg(test)]
impl Node {
    /// Every watch, after checking what the nodes know of their kids.
    pub(super) fn collect(&self, slots: &mut Vec<Slot>) {
        assert!((1..=FANOUT).contains(&self.len()));
        match self {
            Self::Leaf(leaf) => slots.extend((0..leaf.len()).map(|at| leaf.slot(at))),
            Self::Inner(inner) => {
                for at in 0..FANOUT {
                    let Some(kid) = inner.kids[at].as_ref() else {
                        assert!(at >= inner.len);
                        continue;
                    };
                    assert_eq!((at < inner.len, inner.ids[at]), (true, kid.first_id()));
                    kid.collect(slots);
                }
            }
        }
    }
}
