//! The stages that a tick passes through on its way to an alert.

pub mod evaluate;
