//! Queries: what reads and changes nothing, shared by both APIs.

use std::sync::Arc;

use super::board::{Board, Seen};
use super::fault::Fault;
use super::store::{AlertView, QueryStore, Quote, WatchRef, WatchView};
use crate::model::{Price, Symbol, UserId, WatchId};

/// The most prices that one query reads.
pub const PRICES_MAX: u32 = 10_000;

/// A mean of prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Average {
    /// The mean, rounded half-even to 8 places.
    pub price: Price,
    /// Of how many prices.
    pub count: u32,
}

/// The queries of both APIs.
#[derive(Clone)]
pub struct Queries {
    store: Arc<dyn QueryStore>,
    board: Arc<Board>,
}

impl Queries {
    /// Queries of a store, with the newest prices from memory.
    pub fn new(store: Arc<dyn QueryStore>, board: Arc<Board>) -> Self {
        Self { store, board }
    }

    /// The newest price of a symbol: from memory, once it was asked for.
    pub async fn quote(&self, symbol: Symbol) -> Result<Option<Quote>, Fault> {
        match self.board.newest(symbol) {
            Seen::Known(quote) => Ok(quote),
            Seen::Ask => {
                let stored = self.store.quote(symbol).await?;
                Ok(self.board.learn(symbol, stored))
            }
        }
    }

    /// The mean of the newest prices of a symbol; `None` if there are none.
    pub async fn average(&self, symbol: Symbol, count: u32) -> Result<Option<Average>, Fault> {
        let quotes = self.history(symbol, count).await?;
        let mean = Price::mean(quotes.iter().map(|quote| quote.price));
        let count = u32::try_from(quotes.len()).unwrap_or(u32::MAX);
        Ok(mean.map(|price| Average { price, count }))
    }

    /// The newest prices of a symbol, newest first.
    pub async fn history(&self, symbol: Symbol, count: u32) -> Result<Vec<Quote>, Fault> {
        Ok(self.store.history(symbol, count.min(PRICES_MAX)).await?)
    }

    /// A page of a user's watches.
    pub async fn watches(
        &self,
        user: UserId,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<WatchView>, Fault> {
        Ok(self.store.watches(user, after, limit).await?)
    }

    /// One watch of a user.
    pub async fn watch(&self, user: UserId, watch: WatchRef) -> Result<Option<WatchView>, Fault> {
        Ok(self.store.watch(user, watch).await?)
    }

    /// Why symbols that have no price have none, as far as the collector has noted it.
    pub async fn symbol_notes(&self, symbols: &[Symbol]) -> Result<Vec<(Symbol, String)>, Fault> {
        if symbols.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.store.symbol_notes(symbols).await?)
    }

    /// A page of a user's alerts, newest first.
    pub async fn alerts(
        &self,
        user: UserId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AlertView>, Fault> {
        Ok(self.store.alerts(user, before, limit).await?)
    }
}
