//! Tripline tells people the moment a price crosses their line: once, and never lost.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr))]

pub mod adapters;
pub mod cli;
pub mod config;
pub mod csv_input;
pub mod failpoint;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod metrics;
pub mod model;
pub mod node;
pub mod pipeline;
pub mod proto;
pub mod replay;
pub mod server;
pub mod trace;
