//! Memberships: who shares the partitions of a topic.

pub mod memory;
