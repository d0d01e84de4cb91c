//! Port: what the server reads of watches, prices and alerts.

use async_trait::async_trait;

use super::WatchRef;
use crate::model::{
    Alert, Condition, Currency, MarketState, Price, Symbol, Timestamp, Told, UserId, Watch,
    WatchId, WatchState,
};
use crate::pipeline::store::StoreError;

/// A price as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The symbol.
    pub symbol: Symbol,
    /// Its instant.
    pub time: Timestamp,
    /// The price.
    pub price: Price,
    /// The currency pinned on the symbol.
    pub currency: Option<Currency>,
    /// The state of the market with this price, where it is known: of a newest price only.
    pub market: Option<MarketState>,
}

/// A watch with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchView {
    /// The watch.
    pub watch: Watch,
    /// The state of its evaluation, carried to the watch's version.
    pub state: WatchState,
    /// The newest price of its symbol.
    pub last: Option<Quote>,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// On its way.
    Pending,
    /// Taken by the mail server.
    Delivered,
    /// Given up.
    Dead,
    /// Its watch or user was deleted first.
    Cancelled,
}

/// An alert with what became of it. `cursor` orders a user's alerts by when they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertView {
    /// Its place in the listing.
    pub cursor: u64,
    /// The alert.
    pub alert: Alert,
    /// What became of it.
    pub delivery: DeliveryState,
}

/// The queries' reads.
#[async_trait]
pub trait QueryStore: Send + Sync + 'static {
    /// A page of a user's watches, by id, after `after`.
    async fn watches(
        &self,
        user: UserId,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<WatchView>, StoreError>;

    /// One watch of a user.
    async fn watch(&self, user: UserId, watch: WatchRef) -> Result<Option<WatchView>, StoreError> {
        let after = match watch {
            WatchRef::Oldest => None,
            WatchRef::Id(WatchId(0)) => return Ok(None),
            WatchRef::Id(WatchId(id)) => Some(WatchId(id - 1)),
        };
        let found = self.watches(user, after, 1).await?.pop();
        Ok(found.filter(|view| watch == WatchRef::Oldest || watch == WatchRef::Id(view.watch.id)))
    }

    /// The newest price of a symbol.
    async fn quote(&self, symbol: Symbol) -> Result<Option<Quote>, StoreError>;

    /// The newest `limit` prices kept of a symbol, newest first.
    async fn history(&self, symbol: Symbol, limit: u32) -> Result<Vec<Quote>, StoreError>;

    /// What the collector has noted of those of these symbols that have no price: why.
    async fn symbol_notes(&self, symbols: &[Symbol]) -> Result<Vec<(Symbol, String)>, StoreError>;

    /// A user's alerts, newest first, before `before`.
    async fn alerts(
        &self,
        user: UserId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AlertView>, StoreError>;
}

/// The condition last told, for a listing.
pub fn told(state: &WatchState) -> Option<Condition> {
    match state.told {
        Told::Nothing => None,
        Told::Told { condition, .. } => Some(condition),
    }
}
