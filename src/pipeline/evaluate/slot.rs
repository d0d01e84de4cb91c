//! One watch as the engine holds it, and its evaluation against one price.

use super::Effects;
use super::policy::{Decision, Moment, Quiet, Rule, after};
use crate::model::{
    Alert, AlertId, Condition, LastTick, Price, Symbol, UserId, Version, Watch, WatchId, WatchState,
};

/// A watch, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) id: WatchId,
    pub(super) user: UserId,
    pub(super) version: Version,
    pub(super) rule: Rule,
    pub(super) state: WatchState,
}

impl Slot {
    pub(super) fn new(watch: &Watch, state: WatchState) -> Self {
        Self {
            id: watch.id,
            user: watch.user,
            version: watch.version,
            rule: Rule::from(watch),
            state,
        }
    }

    /// What stays quiet after the last tick of the symbol. Before its first tick nothing is:
    /// which side of its thresholds the price is on is not known yet.
    pub(super) fn quiet(&self, last: Option<LastTick>) -> Quiet {
        last.map_or(Quiet::NOT, |last| self.rule.quiet(&self.state, Moment::from(last)))
    }

    /// Evaluates the watch and notes its alert. Returns whether its state changed.
    pub(super) fn evaluate(
        &mut self,
        symbol: &Symbol,
        tick: LastTick,
        alerts: &mut Vec<Alert>,
    ) -> bool {
        let decision = self.rule.decide(&self.state, Moment::from(tick));
        self.state = after(decision, &self.state, tick.time);
        if let Decision::Tell { condition, .. } = decision {
            let threshold = match condition {
                Condition::Above => self.rule.high,
                Condition::Below => self.rule.low,
            };
            let id = AlertId { watch: self.id, version: self.version, time: tick.time, condition };
            alerts.push(alert(id, self.user, symbol, tick.price, threshold));
        }
        decision != Decision::Nothing
    }
}

/// The alert that a watch tells at a price.
#[inline]
pub(super) fn alert(
    id: AlertId,
    user: UserId,
    symbol: &Symbol,
    price: Price,
    threshold: i64,
) -> Alert {
    // A threshold came from a price, so it is one.
    let threshold = Price::from_units(threshold).unwrap_or(price);
    Alert { id, user, symbol: *symbol, price, threshold }
}

impl From<LastTick> for Moment {
    fn from(tick: LastTick) -> Self {
        Self { price: tick.price.units(), time: tick.time.millis() }
    }
}

/// A tick on its way through the watches of its symbol.
pub(super) struct Sweep<'a> {
    pub(super) symbol: &'a Symbol,
    pub(super) tick: LastTick,
    /// The tick's price and time once more, as numbers.
    pub(super) at: Moment,
    /// Whether the price is not under the last one. Every quiet interval that is not empty
    /// holds the last price, so a rising price can leave one at its upper end only, and a
    /// falling one at its lower end only: half of the bounds need no look.
    pub(super) rising: bool,
    /// How many more watches may leave the tree.
    pub(super) room: usize,
    /// Watches that left the tree because the price crosses them again.
    pub(super) near: Vec<Slot>,
    pub(super) out: &'a mut Effects,
}

impl Sweep<'_> {
    /// Evaluates one watch; notes its alert and its state.
    pub(super) fn evaluate(&mut self, slot: &mut Slot) -> bool {
        let changed = slot.evaluate(self.symbol, self.tick, &mut self.out.alerts);
        if changed {
            self.out.states.push((slot.id, slot.state));
        }
        changed
    }

    /// Whether a watch leaves the tree, where it is quiet from now on, to be kept by price: if
    /// it told before this tick and does something again. One whose price is crossed once, as
    /// many are when a market falls, stays.
    pub(super) fn takes(&mut self, slot: &Slot) -> bool {
        let takes = self.near.len() < self.room && slot.rule.tells_each_crossing();
        if takes {
            self.near.push(*slot);
        }
        takes
    }
}
