//! A step that a partition's owner commits, whichever database takes it.

use super::TICKS_TOPIC;
use super::rows::{self, Cells};
use crate::model::{AlertSeq, Epoch, Offset, Partition};
use crate::pipeline::evaluate::{self, Evaluation};
use crate::pipeline::notify;
use crate::pipeline::store::{Fence, Span, StoreError};

/// A partition as its new owner finds it.
pub(super) struct Taken {
    fence: Fence,
    position: Offset,
    last: AlertSeq,
    published: AlertSeq,
}

impl Taken {
    /// The columns epoch, position, last_seq, published_seq of `partitions`.
    pub(super) fn of(row: &impl Cells, partition: Partition) -> Result<Self, StoreError> {
        Ok(Self {
            fence: Fence { partition, epoch: Epoch(rows::number(row, 0)?) },
            position: Offset(rows::number(row, 1)?),
            last: AlertSeq(rows::number(row, 2)?),
            published: AlertSeq(rows::number(row, 3)?),
        })
    }

    pub(super) fn for_evaluator(self) -> evaluate::Owned {
        let Self { fence, position, last, published } = self;
        evaluate::Owned { fence, position, last, published }
    }

    pub(super) fn for_notifier(self) -> notify::Owned {
        notify::Owned { fence: self.fence, position: self.position }
    }
}

/// Refuses a partition that a topic does not have.
pub(super) fn check_partition(
    topic: &str,
    partition: Partition,
    partitions: u32,
) -> Result<(), StoreError> {
    if partition.0 < partitions {
        return Ok(());
    }
    Err(StoreError::Permanent(format!(
        "expected a partition below {partitions} of {topic}, found {partition}"
    )))
}

/// How far a step brings its partition.
pub(super) struct Advance<'a> {
    pub(super) topic: &'a str,
    pub(super) fence: Fence,
    pub(super) span: Span,
    /// The first and the last number of the alerts that the step makes.
    pub(super) alerts: Option<(AlertSeq, AlertSeq)>,
    pub(super) published: AlertSeq,
}

impl Advance<'_> {
    /// By a step of the evaluator.
    pub(super) fn evaluated(fence: Fence, span: Span, step: &Evaluation) -> Self {
        let numbers = || step.alerts.iter().map(|alert| alert.seq);
        let alerts = numbers().min().zip(numbers().max());
        Self { topic: TICKS_TOPIC, fence, span, alerts, published: step.published }
    }

    /// The number that the partition's last one must be below, and the last one afterwards.
    ///
    /// A step may consume nothing of the log (`from` equals `to`), so where it makes alerts,
    /// their numbers tell a first commit from a repeated one.
    pub(super) fn numbers(&self) -> (i64, i64) {
        let signed =
            |(first, last): (AlertSeq, AlertSeq)| (rows::signed(first.0), rows::signed(last.0));
        self.alerts.map_or((i64::MAX, 0), signed)
    }

    /// What it means that the partition, with the columns epoch, position, last_seq, was not
    /// moved: nothing, if this very step has committed before.
    pub(super) fn judge(&self, found: Option<&impl Cells>) -> Result<(), StoreError> {
        let Fence { partition, epoch } = self.fence;
        let fenced = StoreError::Fenced { partition, epoch };
        let Some(row) = found else { return Err(fenced) };
        if rows::number(row, 0)? != epoch.0 {
            return Err(fenced);
        }
        let found = Offset(rows::number(row, 1)?);
        let last_seq = AlertSeq(rows::number(row, 2)?);
        if found == self.span.to && self.alerts.is_none_or(|(_, last)| last == last_seq) {
            return Ok(());
        }
        Err(StoreError::Position { partition, expected: self.span.from, found })
    }
}
