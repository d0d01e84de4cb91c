//! Ports: where prices come from.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Symbol, Tick};

/// Why a source has no price for a symbol now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    /// The source does not know the symbol: no failure of the source, and no price.
    #[error("the source does not know the symbol {0}")]
    UnknownSymbol(Symbol),
    /// The source knows the symbol and has no price of it (not traded yet today).
    #[error("the source has no price of {0} now")]
    NoPrice(Symbol),
    /// The source stated a price that breaks the rules of prices.
    #[error("the source stated a price of {symbol} that is refused: {reason}")]
    BadPrice {
        /// The symbol.
        symbol: Symbol,
        /// What is wrong with it.
        reason: String,
    },
    /// A row of a file of prices breaks the rules; the next one can be read.
    #[error("{0}")]
    BadRow(String),
    /// The source asks to be left alone for a while.
    #[error("the source asks for fewer requests (again in {})", retry_after.map_or("a while".to_owned(), |d| format!("{} s", d.as_secs())))]
    Throttled {
        /// For how long, if it says.
        retry_after: Option<Duration>,
    },
    /// The source failed: out of reach, too slow, or an answer that is no answer.
    #[error("the source failed: {0}")]
    Failed(String),
    /// The circuit breaker is open: the source was not asked.
    #[error("the source is not asked while its circuit breaker is open")]
    BreakerOpen,
}

/// A source that is asked for the price of a symbol.
#[async_trait]
pub trait Quotes: Send + Sync + 'static {
    /// The newest price, with the source's own time and currency. Bounded in time, rate and
    /// concurrency by the adapter. Cancel-safe.
    async fn quote(&self, symbol: Symbol) -> Result<Tick, MarketError>;
}

/// A source that sends ticks of its own accord.
#[async_trait]
pub trait TickStream: Send + 'static {
    /// Waits for the next ticks, in order; `None` when there will be no more. A row that breaks
    /// the rules is an error that names it, after which the stream goes on. Cancel-safe.
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>>;
}
