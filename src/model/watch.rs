//! A user's interest in a symbol, the state of its evaluation, and what a change does to it.

use std::fmt;
use std::str::FromStr;

use super::{Decimal, Price, Symbol, Timestamp, UserId, Version, WatchId};

/// What holds of a price: `Above` when it is over the high threshold, `Below` when it is
/// under the low one. Both comparisons are strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// `price > high`.
    Above,
    /// `price < low`.
    Below,
}

impl Condition {
    /// The word in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Condition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "above" => Ok(Self::Above),
            "below" => Ok(Self::Below),
            _ => Err(()),
        }
    }
}

/// When a standing condition is told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Told when the condition differs from the last one told since the price came back.
    Crossing {
        /// The price distance by which the price must come back; zero by default.
        hysteresis: Decimal,
    },
    /// Told when the pair (condition, `floor(price / step)`) differs from the one last told.
    Step {
        /// The width of a step; 1 by default.
        step: Price,
    },
    /// Told once; then the watch is done.
    Once,
}

/// The name of a policy, without its parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyKind {
    /// [`Policy::Crossing`].
    #[default]
    Crossing,
    /// [`Policy::Step`].
    Step,
    /// [`Policy::Once`].
    Once,
}

impl PolicyKind {
    /// The word in every input and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crossing => "crossing",
            Self::Step => "step",
            Self::Once => "once",
        }
    }

    /// The policy of this name; a parameter that it does not use is ignored.
    pub fn with(self, step: Option<Price>, hysteresis: Option<Decimal>) -> Policy {
        match self {
            Self::Crossing => Policy::Crossing { hysteresis: hysteresis.unwrap_or(Decimal::ZERO) },
            Self::Step => Policy::Step { step: step.unwrap_or(Policy::STEP_DEFAULT) },
            Self::Once => Policy::Once,
        }
    }
}

impl FromStr for PolicyKind {
    type Err = WatchSpecError;

    fn from_str(text: &str) -> Result<Self, WatchSpecError> {
        match text {
            "crossing" => Ok(Self::Crossing),
            "step" => Ok(Self::Step),
            "once" => Ok(Self::Once),
            _ => Err(WatchSpecError::Policy(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Policy {
    /// The default width of a step: 1.
    pub const STEP_DEFAULT: Price = match Price::from_units(100_000_000) {
        Some(price) => price,
        None => Price::MIN,
    };

    /// The policy's name.
    pub const fn kind(self) -> PolicyKind {
        match self {
            Self::Crossing { .. } => PolicyKind::Crossing,
            Self::Step { .. } => PolicyKind::Step,
            Self::Once => PolicyKind::Once,
        }
    }

    /// Its step and its hysteresis; `None` for what it does not use.
    pub const fn parameters(self) -> (Option<Price>, Option<Decimal>) {
        match self {
            Self::Crossing { hysteresis } => (None, Some(hysteresis)),
            Self::Step { step } => (Some(step), None),
            Self::Once => (None, None),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Crossing { hysteresis: Decimal::ZERO }
    }
}

/// What a user asks for: valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSpec {
    symbol: Symbol,
    low: Option<Price>,
    high: Option<Price>,
    policy: Policy,
    cooldown_s: u64,
}

/// Why a watch is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchSpecError {
    /// The thresholds exclude each other.
    #[error("expected low < high, found low {low} and high {high}")]
    Thresholds {
        /// The low threshold.
        low: Price,
        /// The high threshold.
        high: Price,
    },
    /// No such policy.
    #[error("expected the policy crossing, step or once, found {0:?}")]
    Policy(String),
    /// Longer than any watch lives.
    #[error("expected a cooldown of at most 9999999999 seconds, found {0}")]
    Cooldown(u64),
}

impl WatchSpec {
    /// The longest cooldown, in seconds.
    pub const COOLDOWN_S_MAX: u64 = 9_999_999_999;

    /// A watch on `symbol`; refuses `low >= high` and an absurd cooldown.
    pub fn new(
        symbol: Symbol,
        low: Option<Price>,
        high: Option<Price>,
        policy: Policy,
        cooldown_s: u64,
    ) -> Result<Self, WatchSpecError> {
        if let (Some(low), Some(high)) = (low, high)
            && low >= high
        {
            return Err(WatchSpecError::Thresholds { low, high });
        }
        if cooldown_s > Self::COOLDOWN_S_MAX {
            return Err(WatchSpecError::Cooldown(cooldown_s));
        }
        Ok(Self { symbol, low, high, policy, cooldown_s })
    }

    /// What is watched.
    pub const fn symbol(&self) -> Symbol {
        self.symbol
    }

    /// The low threshold.
    pub const fn low(&self) -> Option<Price> {
        self.low
    }

    /// The high threshold.
    pub const fn high(&self) -> Option<Price> {
        self.high
    }

    /// The repeat policy.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Seconds after an alert in which no other is made; zero for none.
    pub const fn cooldown_s(&self) -> u64 {
        self.cooldown_s
    }

    /// What changing this watch into `next` does to the state of its evaluation.
    pub fn change_to(&self, next: &Self) -> Change {
        if self == next {
            return Change::None;
        }
        if (self.symbol, self.low, self.high, self.policy)
            == (next.symbol, next.low, next.high, next.policy)
        {
            return Change::KeepsState;
        }
        let step_stays = matches!(self.policy, Policy::Step { .. })
            && self.policy == next.policy
            && self.symbol == next.symbol;
        if step_stays { Change::EndsCooldown } else { Change::StartsAfresh }
    }
}

/// What a change of a watch does to the state of its evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Equal values: no change at all, and no new version.
    None,
    /// A new version with the state as it was (another cooldown, paused, resumed).
    KeepsState,
    /// A `step` watch whose thresholds changed keeps the pair last told; its cooldown is over.
    EndsCooldown,
    /// Nothing is told any more, and the cooldown is over.
    StartsAfresh,
}

/// A watch as commands have left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its identity.
    pub id: WatchId,
    /// Whose it is.
    pub user: UserId,
    /// How often it was changed.
    pub version: Version,
    /// The newest version at which the state started afresh.
    pub fresh_since: Version,
    /// The newest version at which a running cooldown ended.
    pub cooldown_since: Version,
    /// Whether it is evaluated at all.
    pub paused: bool,
    /// What it asks for.
    pub spec: WatchSpec,
}

/// What was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing since the watch was armed.
    #[default]
    Nothing,
    /// This condition; `bucket` is `floor(price / step)` under the policy `step`, else 0.
    Told {
        /// The condition told.
        condition: Condition,
        /// The step told.
        bucket: i64,
    },
}

/// The state of a watch's evaluation. Only the evaluator writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchState {
    /// The version of the watch that this state was made with; 0 for a watch never evaluated.
    pub version: Version,
    /// What was last told.
    pub told: Told,
    /// The time of the last alert's tick, unless a change ended its cooldown.
    pub last_alert: Option<Timestamp>,
}

impl WatchState {
    /// This state once `watch`'s changes up to its version have been applied to it.
    ///
    /// A change may have been superseded before it was evaluated, so what happens follows from
    /// the versions that the commands recorded, never from comparing values.
    #[must_use]
    pub fn carried_to(self, watch: &Watch) -> Self {
        if self.version >= watch.version {
            return self;
        }
        if watch.fresh_since > self.version {
            return Self { version: watch.version, ..Self::default() };
        }
        let cooldown_over = watch.cooldown_since > self.version;
        Self {
            version: watch.version,
            told: self.told,
            last_alert: if cooldown_over { None } else { self.last_alert },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(symbol: &str, low: &str, high: &str, policy: Policy, cooldown_s: u64) -> WatchSpec {
        let price = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        WatchSpec::new(symbol.parse().unwrap(), price(low), price(high), policy, cooldown_s)
            .unwrap()
    }

    #[test]
    fn a_change_of_anything_but_the_cooldown_starts_afresh_except_for_steps() {
        let step = Policy::Step { step: "2".parse().unwrap() };
        let wide = Policy::Crossing { hysteresis: "1".parse().unwrap() };
        let crossing = Policy::default();
        for (from, to, expected) in [
            (("A", "1", "2", crossing, 0), ("A", "1", "2", crossing, 0), Change::None),
            (("A", "1", "2", crossing, 0), ("a", "1.0", "2", crossing, 0), Change::None),
            (("A", "1", "2", crossing, 0), ("A", "1", "2", crossing, 9), Change::KeepsState),
            (("A", "1", "2", crossing, 0), ("A", "1", "3", crossing, 0), Change::StartsAfresh),
            (("A", "1", "2", crossing, 0), ("A", "1", "", crossing, 0), Change::StartsAfresh),
            (("A", "1", "2", crossing, 0), ("A", "1", "2", wide, 0), Change::StartsAfresh),
            (("A", "1", "2", crossing, 0), ("B", "1", "2", crossing, 0), Change::StartsAfresh),
            (
                ("A", "1", "2", Policy::Once, 0),
                ("A", "1", "3", Policy::Once, 0),
                Change::StartsAfresh,
            ),
            (("A", "1", "2", step, 0), ("A", "1", "3", step, 0), Change::EndsCooldown),
            (("A", "1", "2", step, 0), ("A", "1", "3", step, 5), Change::EndsCooldown),
            (("A", "1", "2", step, 0), ("A", "1", "2", step, 5), Change::KeepsState),
            (("A", "1", "2", step, 0), ("B", "1", "2", step, 0), Change::StartsAfresh),
            (("A", "1", "2", step, 0), ("A", "1", "2", crossing, 0), Change::StartsAfresh),
            (("A", "1", "2", crossing, 0), ("A", "1", "2", step, 0), Change::StartsAfresh),
        ] {
            let build =
                |(symbol, low, high, policy, cooldown)| spec(symbol, low, high, policy, cooldown);
            assert_eq!(build(from).change_to(&build(to)), expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn superseded_changes_still_do_what_they_did() {
        let state = WatchState {
            version: Version(3),
            told: Told::Told { condition: Condition::Above, bucket: 0 },
            last_alert: Timestamp::from_millis(5),
        };
        let watch = |version, fresh_since, cooldown_since| Watch {
            id: WatchId(1),
            user: UserId(1),
            version: Version(version),
            fresh_since: Version(fresh_since),
            cooldown_since: Version(cooldown_since),
            paused: false,
            spec: spec("A", "1", "2", Policy::default(), 0),
        };
        // Changed there and back again: both ends are equal, and still it starts afresh.
        assert_eq!(state.carried_to(&watch(5, 4, 4)).told, Told::Nothing);
        assert_eq!(state.carried_to(&watch(5, 2, 2)), WatchState { version: Version(5), ..state });
        assert_eq!(
            state.carried_to(&watch(5, 2, 4)),
            WatchState { version: Version(5), last_alert: None, ..state }
        );
        // A state that is newer than the watch read is left alone.
        assert_eq!(state.carried_to(&watch(2, 2, 2)), state);
    }

    #[test]
    fn thresholds_must_not_meet() {
        let price = |text: &str| Some(text.parse().unwrap());
        let symbol = "A".parse().unwrap();
        for (low, high) in [("2", "2"), ("3", "2")] {
            let error =
                WatchSpec::new(symbol, price(low), price(high), Policy::default(), 0).unwrap_err();
            assert!(error.to_string().starts_with("expected low < high"), "{error}");
        }
    }
}
