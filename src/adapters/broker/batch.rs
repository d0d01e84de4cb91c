//! Batches of encoded records in memory, and pages of records read from them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::codec::{self, Malformed};
use crate::model::Offset;
use crate::pipeline::broker::Placed;

/// Records that were appended together. A clone shares the body.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// The offset of the first record.
    pub(super) base: Offset,
    /// How many records there are, at least one.
    pub(super) count: u64,
    /// What the records are counted as, in bytes.
    pub(super) size: u64,
    /// The encoded records.
    pub(super) body: Bytes,
}

impl Batch {
    /// The offset after the last record.
    pub(super) fn end(&self) -> Offset {
        Offset(self.base.0 + self.count)
    }
}

/// Neighbouring batches of one partition, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Batches {
    list: VecDeque<Batch>,
    end: Offset,
    size: u64,
}

impl Batches {
    /// No batches, at the end of a log.
    pub(super) fn empty_at(end: Offset) -> Self {
        Self { list: VecDeque::new(), end, size: 0 }
    }

    /// The oldest offset, or the end if there is none.
    pub(super) fn first(&self) -> Offset {
        self.list.front().map_or(self.end, |batch| batch.base)
    }

    /// The offset after the newest.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// What all batches are counted as, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The oldest batch.
    pub(super) fn front(&self) -> Option<&Batch> {
        self.list.front()
    }

    /// Adds a batch that begins at the end.
    pub(super) fn push(&mut self, batch: Batch) {
        debug_assert_eq!(batch.base, self.end, "batches are neighbours");
        self.end = batch.end();
        self.size += batch.size;
        self.list.push_back(batch);
    }

    /// Takes the oldest batch off.
    pub(super) fn pop(&mut self) -> Option<Batch> {
        let batch = self.list.pop_front()?;
        self.size -= batch.size;
        Some(batch)
    }

    /// The batches from the one with `from` on that a page of `bytes_max` can use. They are
    /// returned, not read, so that nothing is decoded under a lock.
    pub(super) fn select(&self, from: Offset, bytes_max: usize) -> Vec<Batch> {
        let start = self.list.partition_point(|batch| batch.end() <= from);
        let mut left = Some(u64::try_from(bytes_max).unwrap_or(u64::MAX));
        let mut selected = Vec::new();
        for batch in self.list.range(start..) {
            let Some(bytes) = left else { break };
            selected.push(batch.clone());
            // The first one may begin long before `from`, so it does not count.
            if batch.base >= from {
                left = bytes.checked_sub(batch.size);
            }
        }
        selected
    }
}

/// Records that are being read: those from an offset on that fit into a number of bytes.
#[derive(Debug)]
pub(super) struct Page {
    next: Offset,
    bytes_left: usize,
    records: Vec<Placed>,
}

impl Page {
    /// An empty page that begins at `from`.
    pub(super) fn new(from: Offset, bytes_max: usize) -> Self {
        Self { next: from, bytes_left: bytes_max, records: Vec::new() }
    }

    /// The offset that the page continues with.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Adds the records of `batch` that belong here. Returns whether more may fit.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<bool, Malformed> {
        let mut body = batch.body.clone();
        for offset in batch.base.0..batch.end().0 {
            if offset < self.next.0 {
                codec::skip(&mut body)?;
                continue;
            }
            let record = codec::decode(&mut body)?;
            let size = record.size();
            if size > self.bytes_left && !self.records.is_empty() {
                return Ok(false);
            }
            self.bytes_left = self.bytes_left.saturating_sub(size);
            let offset = Offset(offset);
            self.records.push(Placed { offset, record });
            self.next = offset.next();
        }
        if body.is_empty() { Ok(self.bytes_left > 0) } else { Err(Malformed) }
    }

    /// The records.
    pub(super) fn finish(self) -> Vec<Placed> {
        self.records
    }
}
