//! Stores: everything but the log, as SQL databases keep it.

mod error;
pub mod mysql;
mod rows;
pub mod sqlite;
mod views;

pub use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
