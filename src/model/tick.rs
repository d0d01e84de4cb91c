//! A price of a symbol at an instant.

use super::{Currency, MarketState, Price, Symbol, Timestamp};

/// A price of a symbol at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// What is priced.
    pub symbol: Symbol,
    /// The instant of the price: event time, not the time of its arrival.
    pub time: Timestamp,
    /// The price.
    pub price: Price,
    /// The money that the price is in, where the source states it.
    pub currency: Option<Currency>,
    /// The state of its market with this price, where the source states it.
    pub market: Option<MarketState>,
}

/// The newest tick of a symbol that counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTick {
    /// Its instant.
    pub time: Timestamp,
    /// Its price.
    pub price: Price,
}
