//! The graph: typed stages joined by a broker, and the ports that they need.
//!
//! Nothing here knows an adapter or the server.

pub mod breaker;
pub mod broker;
pub mod clock;
pub mod cluster;
pub mod collect;
pub mod evaluate;
pub mod log_source;
pub mod members;
pub mod notify;
pub mod record;
mod run;
pub mod stage;
pub mod store;

pub use run::{Backoff, Complete, Pipeline};
