//! The repeat policies: what a price does to one watch, and how far the price may move
//! before anything happens to it.

use crate::model::{Condition, Policy, PolicyKind, Timestamp, Told, Watch, WatchState};

/// A time that never comes.
pub(super) const NEVER: i64 = i64::MAX;

/// A price, in units of 10⁻⁸, and its instant, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) price: i64,
    pub(super) time: i64,
}

/// What of a watch decides, in plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The low threshold; `i64::MIN` for none, under which no price is.
    pub(super) low: i64,
    /// The high threshold; `i64::MAX` for none.
    pub(super) high: i64,
    pub(super) kind: PolicyKind,
    /// The hysteresis of `crossing`, the step of `step`, else 0.
    pub(super) width: i64,
    pub(super) cooldown_ms: i64,
    pub(super) paused: bool,
}

/// What a price does to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Nothing,
    Rearm,
    Tell { condition: Condition, bucket: i64 },
}

/// The prices, both ends included, at which nothing happens to a watch before `wake`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    pub(super) low: i64,
    pub(super) high: i64,
    /// The earliest time in milliseconds at which more prices than these may matter.
    pub(super) wake: i64,
}

impl Quiet {
    /// Every price, for good.
    pub(super) const ALWAYS: Self = Self { low: i64::MIN, high: i64::MAX, wake: NEVER };
    /// No price: the next tick must look.
    pub(super) const NOT: Self = Self { low: i64::MAX, high: i64::MIN, wake: NEVER };

    /// What is quiet for both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            low: self.low.max(other.low),
            high: self.high.min(other.high),
            wake: self.wake.min(other.wake),
        }
    }
}

impl From<&Watch> for Rule {
    fn from(watch: &Watch) -> Self {
        let spec = &watch.spec;
        let width = match spec.policy() {
            Policy::Crossing { hysteresis } => hysteresis.units(),
            Policy::Step { step } => step.units(),
            Policy::Once => 0,
        };
        Self {
            low: spec.low().map_or(i64::MIN, |low| low.units()),
            high: spec.high().map_or(i64::MAX, |high| high.units()),
            kind: spec.policy().kind(),
            width,
            cooldown_ms: i64::try_from(spec.cooldown_s()).unwrap_or(NEVER).saturating_mul(1_000),
            paused: watch.paused,
        }
    }
}

impl Rule {
    /// Whether a watch tells whenever the price leaves its band, and that is all there is to it.
    pub(super) fn tells_each_crossing(&self) -> bool {
        self.kind == PolicyKind::Crossing && self.width == 0 && self.cooldown_ms == 0
    }

    /// When the cooldown that runs at `time` is over, if one runs.
    fn cooldown_end(&self, state: &WatchState, time: i64) -> Option<i64> {
        if self.cooldown_ms == 0 {
            return None;
        }
        let end = state.last_alert?.millis().saturating_add(self.cooldown_ms);
        (time < end).then_some(end)
    }

    /// The bucket of a price; only `step` has any but 0.
    fn bucket(&self, price: i64) -> i64 {
        // A step is at least 1; a division by zero would stop every symbol, so it can't be.
        if self.kind == PolicyKind::Step { price / self.width.max(1) } else { 0 }
    }

    /// What a price does to a watch in some state.
    pub(super) fn decide(&self, state: &WatchState, at: Moment) -> Decision {
        if self.paused {
            return Decision::Nothing;
        }
        let condition = if at.price > self.high {
            Condition::Above
        } else if at.price < self.low {
            Condition::Below
        } else {
            return if self.comes_back(state.told, at.price) {
                Decision::Rearm
            } else {
                Decision::Nothing
            };
        };
        let bucket = self.bucket(at.price);
        let told_already = match (self.kind, state.told) {
            (_, Told::Nothing) => false,
            (PolicyKind::Once, Told::Told { .. }) => true,
            (_, told) => told == Told::Told { condition, bucket },
        };
        if told_already || self.cooldown_end(state, at.time).is_some() {
            Decision::Nothing
        } else {
            Decision::Tell { condition, bucket }
        }
    }

    /// Whether a price inside the band re-arms the watch.
    fn comes_back(&self, told: Told, price: i64) -> bool {
        let Told::Told { condition, .. } = told else { return false };
        self.kind == PolicyKind::Crossing
            && match condition {
                Condition::Above => price <= self.high.saturating_sub(self.width),
                Condition::Below => price >= self.low.saturating_add(self.width),
            }
    }

    /// The prices around the present one at which nothing happens to a watch in some state;
    /// none at all if something would happen already.
    pub(super) fn quiet(&self, state: &WatchState, at: Moment) -> Quiet {
        if self.paused {
            return Quiet::ALWAYS;
        }
        let held_until = self.cooldown_end(state, at.time);
        let (near, far) = match (self.kind, state.told, held_until) {
            (PolicyKind::Once, Told::Told { .. }, _) => return Quiet::ALWAYS,
            (PolicyKind::Crossing, Told::Told { condition, .. }, None) => {
                (self.quiet_since(condition), None)
            }
            (PolicyKind::Crossing, Told::Told { condition, .. }, Some(_)) => {
                self.quiet_while_held(condition)
            }
            (_, _, Some(_)) => ((i64::MIN, i64::MAX), None),
            (_, Told::Nothing, None) => ((self.low, self.high), None),
            (PolicyKind::Step, Told::Told { condition, bucket }, None) => {
                self.quiet_in_step(condition, bucket)
            }
        };
        [Some(near), far]
            .into_iter()
            .flatten()
            .find(|(low, high)| (*low..=*high).contains(&at.price))
            .map_or(Quiet::NOT, |(low, high)| Quiet {
                low,
                high,
                wake: held_until.unwrap_or(NEVER),
            })
    }

    /// `crossing`, told, no cooldown: until it re-arms or the other condition holds.
    fn quiet_since(&self, told: Condition) -> (i64, i64) {
        match told {
            Condition::Above => {
                let back = self.high.saturating_sub(self.width).saturating_add(1);
                (back.max(self.low), i64::MAX)
            }
            Condition::Below => {
                let back = self.low.saturating_add(self.width).saturating_sub(1);
                (i64::MIN, back.min(self.high))
            }
        }
    }

    /// `crossing`, told, in its cooldown: only a price that re-arms does anything, and it
    /// does so only inside the band. So what is quiet lies on both sides of these prices.
    fn quiet_while_held(&self, told: Condition) -> ((i64, i64), Option<(i64, i64)>) {
        let (first, last) = match told {
            Condition::Above => (self.low, self.high.saturating_sub(self.width)),
            Condition::Below => (self.low.saturating_add(self.width), self.high),
        };
        if first > last {
            return ((i64::MIN, i64::MAX), None);
        }
        let (under, over) =
            ((i64::MIN, first.saturating_sub(1)), (last.saturating_add(1), i64::MAX));
        (under, Some(over))
    }

    /// `step`, told, no cooldown: the band, and the part of the bucket where the condition
    /// told holds. The two are one interval if they touch.
    fn quiet_in_step(&self, told: Condition, bucket: i64) -> ((i64, i64), Option<(i64, i64)>) {
        let first = bucket.saturating_mul(self.width);
        let last = first.saturating_add(self.width).saturating_sub(1);
        let (low, high) = (self.low, self.high);
        match told {
            Condition::Above if first <= high.saturating_add(1) => ((low, high.max(last)), None),
            Condition::Above => ((low, high), Some((first, last))),
            Condition::Below if last >= low.saturating_sub(1) => ((low.min(first), high), None),
            Condition::Below => ((low, high), Some((first, last))),
        }
    }
}

/// The state after a decision at some time.
pub(super) fn after(decision: Decision, state: &WatchState, time: Timestamp) -> WatchState {
    match decision {
        Decision::Nothing => *state,
        Decision::Rearm => WatchState { told: Told::Nothing, ..*state },
        Decision::Tell { condition, bucket } => {
            WatchState { told: Told::Told { condition, bucket }, last_alert: Some(time), ..*state }
        }
    }
}
