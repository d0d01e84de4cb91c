//! The server node over real sockets, on the embedded store and a broker in memory.
#![allow(clippy::unwrap_used)]

mod accounts;
mod age;
mod at_most_once;
mod fields;
mod fixture;
mod legacy;
mod operations;
mod streams;
