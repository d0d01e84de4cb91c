//! Port: what the collector needs of the store.

use async_trait::async_trait;

use crate::model::Symbol;
use crate::pipeline::store::StoreError;

/// The collector's transactions.
#[async_trait]
pub trait CollectStore: Send + Sync + 'static {
    /// The distinct symbols that some watch which is not paused is on, by symbol. Costs what it
    /// returns, however many users and watches there are.
    async fn watched(&self) -> Result<Vec<Symbol>, StoreError>;

    /// How many distinct symbols are watched, paused watches included.
    async fn watched_count(&self) -> Result<u64, StoreError>;

    /// Notes why symbols have no price, in place of what was noted of them before; `None`: there
    /// is nothing to note any more. Each symbol occurs once.
    async fn note_symbols(&self, notes: &[(Symbol, Option<String>)]) -> Result<(), StoreError>;

    /// Forgets what was noted of every symbol.
    async fn forget_notes(&self) -> Result<(), StoreError>;
}
