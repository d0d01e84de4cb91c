//! Collection: from prices of the outside world to accepted ticks.

mod collector;
mod door;
mod log_door;
mod market;
mod notes;
mod poller;
mod store;

pub use collector::collect;
pub use door::Door;
pub use log_door::{DoorOptions, LogDoor};
pub use market::{MarketError, Quotes, TickStream};
pub use notes::SymbolNotes;
pub use poller::{Poller, PollerHandle, PollerOptions, PollerPorts};
pub use store::CollectStore;
