//! Request caches.

pub mod moka;
pub mod redis;
