//! Which alerts a tick makes: the rules as plain synchronous functions.
//!
//! Nothing here does I/O, reads a clock, takes a lock or allocates for a tick that tells
//! nothing. [`Engine`] is what runs; [`reference`] is the same contract written to be read,
//! and the properties in `tests` hold one to the other.
//!
//! The idea is that almost every tick changes nothing. `policy` answers not only what a
//! price does to a watch but also how far the price may move before anything happens at all;
//! `tree` keeps, for every group of a symbol's watches, what these intervals have in common.
//! A tick within what all the watches of its symbol have in common is done after a few
//! comparisons, and one outside of it finds the watches concerned, in the order of their ids.
//! Those that the price keeps crossing are taken out of the tree, into `near`, where their
//! thresholds stand in the order of prices and the price has its place among them.

mod bounds;
mod commit;
mod engine;
mod intake;
mod leaf;
mod near;
mod node;
mod partition;
mod policy;
pub mod reference;
mod rules;
mod slot;
mod store;
mod symbols;
#[cfg(test)]
mod tests;
mod traced;
mod tree;

pub use engine::{CurrencyIdx, Engine, EngineTick, SymbolIdx};
pub use partition::{EvaluateOptions, EvaluatorPorts};
pub use rules::{Input, Rules, Step};
pub use store::{
    Applied, ChangeId, ChangeKind, EvaluateStore, Evaluation, NumberedAlert, Owned, PendingChange,
    PricePoint, SymbolState,
};
pub use traced::Traced;

use crate::model::{Alert, WatchId, WatchState};

/// Whether a tick counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It counted, and is now its symbol's last.
    Counted,
    /// It is not later than the last that counted; it changed nothing.
    Late,
    /// It states another currency than its symbol's; it changed nothing.
    Currency,
}

/// What evaluating has brought about since the last [`Effects::clear`].
///
/// Kept and cleared by the caller, so that its memory is used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The alerts, in the order in which they were made.
    pub alerts: Vec<Alert>,
    /// The states that changed, in the order of the changes: the last one of a watch counts.
    pub states: Vec<(WatchId, WatchState)>,
}

impl Effects {
    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.alerts.clear();
        self.states.clear();
    }
}
