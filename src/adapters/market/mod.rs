//! Where prices come from: Yahoo Finance.

mod stopwatch;
mod yahoo;

pub use yahoo::{Yahoo, YahooError, YahooOptions};
