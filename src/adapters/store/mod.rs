//! Stores: everything but the log, as SQL databases keep it.

mod error;
pub mod sqlite;

pub use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
