//! Collection: from prices of the outside world to accepted ticks.

mod market;
mod notes;
mod poller;
mod store;
mod watched;

pub use market::{MarketError, Quotes, TickStream};
pub use notes::SymbolNotes;
pub use poller::{Poller, PollerHandle, PollerOptions, PollerPorts};
pub use store::CollectStore;
pub use watched::WatchedSymbols;
