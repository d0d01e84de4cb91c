//! Where prices come from: Yahoo Finance, a file of ticks, a random walk.

mod replay;
mod simulated;
mod stopwatch;
pub(crate) mod yahoo;

pub use replay::{Replay, ReplayOptions, Speed, SpeedError};
pub use simulated::{Simulated, SimulatedError, SimulatedOptions};
pub use yahoo::{Yahoo, YahooError, YahooOptions};
