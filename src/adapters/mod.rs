//! Implementations of the ports. A new one is one file here and one line in its contract suite.

pub mod broker;
pub mod clock;
