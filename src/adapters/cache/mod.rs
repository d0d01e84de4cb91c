//! Request caches.

pub mod moka;
