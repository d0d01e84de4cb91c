//! Collection: from prices of the outside world to accepted ticks.

mod door;
mod market;
mod store;

pub use door::Door;
pub use market::{MarketError, Quotes, TickStream};
pub use store::CollectStore;
