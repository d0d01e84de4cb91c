//! The server node: both gRPC APIs, and the HTTP pages for operators.

pub mod cache;
pub mod store;
