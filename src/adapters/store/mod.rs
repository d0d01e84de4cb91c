//! Stores: everything but the log, as SQL databases keep it.

mod error;
pub mod sqlite;

/// The topic of ticks.
pub const TICKS_TOPIC: &str = "to-alert-system";
/// The topic of alerts.
pub const ALERTS_TOPIC: &str = "to-notifier";
