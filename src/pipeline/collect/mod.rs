//! Collection: from prices of the outside world to accepted ticks.

mod market;
mod store;

pub use market::{MarketError, Quotes, TickStream};
pub use store::CollectStore;
