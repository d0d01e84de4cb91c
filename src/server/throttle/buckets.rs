//! Buckets that refill: one per key, in bounded memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::model::Timestamp;

/// Why a bucket gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may have something once those that are in flight have ended.
    Busy,
    /// It is empty.
    Throttled {
        /// Seconds until it is not.
        retry_after_s: u64,
    },
}

/// One bucket per key, as the generic cell rate algorithm has it: what is kept of a key is the
/// instant at which its bucket is full again, so an unknown key is a full bucket.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    interval_ms: i64,
    burst: i64,
    entries_max: usize,
    pub(super) entries: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// In milliseconds.
    full_at: i64,
    /// Taken, and not known yet to count.
    in_flight: u32,
}

impl<K: Eq + std::hash::Hash + Clone> Buckets<K> {
    pub(super) fn new(burst: u32, refill_s: u32, entries_max: usize) -> Self {
        Self {
            interval_ms: i64::from(refill_s.max(1)) * 1_000,
            burst: i64::from(burst),
            entries_max,
            entries: Mutex::default(),
        }
    }

    pub(super) fn take(&self, key: K, now: Timestamp) -> Result<(), Refusal> {
        if self.burst == 0 {
            return Ok(());
        }
        let now = now.millis();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.entries_max && !entries.contains_key(&key) {
            self.forget(&mut entries, now);
        }
        let full = Bucket { full_at: now, in_flight: 0 };
        let Bucket { full_at, in_flight } = entries.get(&key).copied().unwrap_or(full);
        let full_at = full_at.max(now) + self.interval_ms;
        let wait_ms = full_at - now - self.burst * self.interval_ms;
        if wait_ms > i64::from(in_flight) * self.interval_ms {
            let retry_after_s = u64::try_from(wait_ms).unwrap_or(0).div_ceil(1_000);
            return Err(Refusal::Throttled { retry_after_s });
        }
        if wait_ms > 0 {
            return Err(Refusal::Busy);
        }
        entries.insert(key, Bucket { full_at, in_flight: in_flight + 1 });
        Ok(())
    }

    /// What was taken is not in flight any more; it goes back if it does not count.
    pub(super) fn end(&self, key: &K, counts: bool) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = entries.get_mut(key) {
            bucket.in_flight = bucket.in_flight.saturating_sub(1);
            if !counts {
                bucket.full_at -= self.interval_ms;
            }
        }
    }

    /// Makes room: full buckets go first, then the fuller half of the others.
    fn forget(&self, entries: &mut HashMap<K, Bucket>, now: i64) {
        entries.retain(|_, bucket| bucket.full_at > now);
        if entries.len() * 2 > self.entries_max {
            let mut times: Vec<i64> = entries.values().map(|bucket| bucket.full_at).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            // Entries with equal times: half of them must go all the same.
            let mut equal_left = entries.len() / 4;
            entries.retain(|_, Bucket { full_at, .. }| {
                let keep = *full_at > median || (*full_at == median && equal_left > 0);
                equal_left -= usize::from(keep && *full_at == median);
                keep
            });
        }
    }
}
