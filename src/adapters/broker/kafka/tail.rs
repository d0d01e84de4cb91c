//! The newest records of a partition, kept for readers that keep up.

use std::collections::VecDeque;

use crate::model::Offset;
use crate::pipeline::broker::Placed;

/// Neighbouring records: all that there are from one offset to another. Some offsets between may
/// hold none.
#[derive(Debug, Default)]
pub(super) struct Run {
    start: Offset,
    next: Offset,
    size: usize,
    records: VecDeque<Placed>,
}

impl Run {
    /// Nothing, at an offset.
    pub(super) fn at(offset: Offset) -> Self {
        Self { start: offset, next: offset, size: 0, records: VecDeque::new() }
    }

    /// The offset after all that is known.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// Whether all that there is from `offset` to [`next`](Self::next) is here.
    pub(super) fn covers(&self, offset: Offset) -> bool {
        (self.start..=self.next).contains(&offset)
    }

    /// Adds records that follow, and drops the oldest beyond `bytes_max`.
    pub(super) fn extend(&mut self, records: impl IntoIterator<Item = Placed>, bytes_max: usize) {
        for placed in records {
            self.next = placed.offset.next();
            self.size += placed.record.size();
            self.records.push_back(placed);
        }
        while self.size > bytes_max {
            self.drop_first();
        }
    }

    /// Notes that there is nothing up to an offset.
    pub(super) fn skip_to(&mut self, offset: Offset) {
        self.next = self.next.max(offset);
    }

    /// Copies of the records from `from` on that fit into `bytes_max`, at least one if there is
    /// one.
    pub(super) fn page(&self, from: Offset, bytes_max: usize) -> Vec<Placed> {
        let first = self.records.partition_point(|placed| placed.offset < from);
        let count = fitting(self.records.range(first..), bytes_max);
        self.records.range(first..first + count).cloned().collect()
    }

    /// Takes the records from `from` on that fit into `bytes_max`, at least one if there is one,
    /// and drops those before.
    pub(super) fn take(&mut self, from: Offset, bytes_max: usize) -> Vec<Placed> {
        while self.records.front().is_some_and(|placed| placed.offset < from) {
            self.drop_first();
        }
        self.start = self.start.max(from);
        let count = fitting(self.records.iter(), bytes_max);
        let page: Vec<Placed> = self.records.drain(..count).collect();
        self.size -= page.iter().map(|placed| placed.record.size()).sum::<usize>();
        if let Some(last) = page.last() {
            self.start = last.offset.next();
        }
        page
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.records.pop_front() {
            self.size -= first.record.size();
            self.start = first.offset.next();
        }
    }
}

/// How many records from the first on fit into `bytes_max`, at least one.
fn fitting<'a>(records: impl Iterator<Item = &'a Placed>, bytes_max: usize) -> usize {
    let mut left = Some(bytes_max);
    let fit = records.enumerate().take_while(|(index, placed)| {
        left = left.and_then(|left| left.checked_sub(placed.record.size()));
        *index == 0 || left.is_some()
    });
    fit.count()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::Timestamp;
    use crate::pipeline::broker::Record;

    /// A record of 20 bytes.
    fn placed(offset: u64) -> Placed {
        let value = Bytes::from_static(b"1234");
        let record =
            Record { key: None, value, headers: Default::default(), time: Timestamp::default() };
        Placed { offset: Offset(offset), record }
    }

    fn offsets(page: &[Placed]) -> Vec<u64> {
        page.iter().map(|placed| placed.offset.0).collect()
    }

    #[test]
    fn pages_are_bounded_and_the_oldest_records_go_first() {
        let mut run = Run::at(Offset(10));
        run.extend([10, 11, 13, 14].map(placed), 60);
        assert!(!run.covers(Offset(10)) && run.covers(Offset(11)) && run.covers(Offset(15)));
        assert_eq!(run.next(), Offset(15));
        assert_eq!(offsets(&run.page(Offset(11), 40)), [11, 13]);
        assert_eq!(offsets(&run.page(Offset(12), 0)), [13]);
        assert_eq!(offsets(&run.page(Offset(15), 100)), [0; 0]);
        run.skip_to(Offset(17));
        assert!(run.covers(Offset(17)) && run.page(Offset(16), 100).is_empty());
    }

    #[test]
    fn what_is_taken_is_not_there_any_more() {
        let mut run = Run::at(Offset(0));
        run.extend((0..5).map(placed), 1_000);
        assert_eq!(offsets(&run.take(Offset(1), 40)), [1, 2]);
        assert!(!run.covers(Offset(1)) && run.covers(Offset(3)));
        assert_eq!(offsets(&run.take(Offset(3), 1_000)), [3, 4]);
        assert!(run.covers(Offset(5)) && run.take(Offset(5), 10).is_empty());
    }
}
