//! Brokers: logs that carry records between nodes, in memory and in a SQLite file.
//!
//! Both keep batches of encoded records and share the encoding, the reading and the bookkeeping.

mod batch;
pub(crate) mod codec;
pub mod kafka;
pub mod memory;
mod positions;
pub mod prefixed;
pub mod sqlite;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pipeline::broker::{BrokerError, Record};

/// Partitions that a topic may have at the most.
const PARTITIONS_MAX: u32 = 1_024;

/// One part in so many of a log is kept from any topic that would fill it alone: whoever reads it
/// may have to append to another before it can go on, and would never free anything if that were
/// refused.
const RESERVED_PART: u64 = 8;

/// What a topic may not take of a log of `limit` bytes, if there are others.
fn reserve(topics: usize, limit: u64) -> u64 {
    if topics > 1 { limit / RESERVED_PART } else { 0 }
}

/// Refuses numbers of partitions that no topic can have.
fn check_partitions(topic: &str, partitions: u32) -> Result<(), BrokerError> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    Err(BrokerError::Permanent(format!(
        "expected 1 to {PARTITIONS_MAX} partitions for the topic {topic}, found {partitions}"
    )))
}

/// How many partitions a topic has.
fn count<T>(partitions: &[T]) -> u32 {
    u32::try_from(partitions.len()).unwrap_or(u32::MAX)
}

/// The counted size of a batch, if it is within `limit`.
fn check_size(records: &[Record], limit: usize) -> Result<usize, BrokerError> {
    let size = records.iter().map(Record::size).sum();
    if size > limit { Err(BrokerError::TooLarge { size, limit }) } else { Ok(size) }
}

/// Locks. A thread that panicked cannot leave this module's data half changed in a way that
/// matters more than stopping everybody else would, so its poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
