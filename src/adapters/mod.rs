//! Implementations of the ports. A new one is one file here and one line in its contract suite.

pub mod broker;
pub mod cache;
pub mod clock;
pub mod mailer;
pub mod market;
pub mod members;
pub mod otlp;
pub mod store;
pub(crate) mod tls;
