//! The words of the domain: prices, times, symbols, watches, ticks, alerts.
//!
//! Everything here is a plain value: constructed through validation, then trusted.
//! Nothing in this module does I/O, reads a clock or allocates in the hot path.

mod alert;
mod decimal;
mod email;
mod id;
mod market;
mod symbol;
mod tick;
mod timestamp;
mod watch;

pub use alert::{Alert, AlertId, ParseAlertIdError};
pub use decimal::{Decimal, DecimalError, Price};
pub use email::{Email, EmailError};
pub use id::{AlertSeq, Epoch, Offset, Partition, UserId, Version, WatchId};
pub use market::{MarketState, MarketStateError};
pub use symbol::{Currency, CurrencyError, Symbol, SymbolError};
pub use tick::{LastTick, Tick};
pub use timestamp::{Timestamp, TimestampError};
pub use watch::{
    Change, Condition, Policy, PolicyKind, Told, Watch, WatchSpec, WatchSpecError, WatchState,
};
