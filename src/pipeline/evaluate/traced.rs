//! The traces of one step: which of its alerts were told by ticks that are traced.

use bytes::Bytes;

use crate::model::AlertSeq;
use crate::pipeline::broker::{HeaderName, Record};
use crate::trace::{Span, SpanKind, TraceParent};

/// The traced ticks of a step that told something, in order; mostly none.
#[derive(Debug, Default)]
pub struct Traced(Vec<Told>);

#[derive(Debug)]
struct Told {
    /// The tick told the alerts after `after` and up to `last`.
    after: AlertSeq,
    last: AlertSeq,
    parent: TraceParent,
    span: Span,
}

impl Traced {
    /// Notes that a tick's record told the alerts after `after` and up to `last`.
    pub fn note(&mut self, record: &Record, after: AlertSeq, last: AlertSeq) {
        if let Some(parent) = TraceParent::of(record) {
            self.0.push(Told { after, last, parent, span: Span::default() });
        }
    }

    /// The spans of this step begin. Called again, it begins nothing anew.
    pub fn begin(&mut self) {
        for told in self.0.iter_mut().filter(|told| told.span.parent().is_none()) {
            told.span = Span::after(Some(told.parent), "evaluate", SpanKind::Consumer);
            let alerts = told.last.0.saturating_sub(told.after.0);
            told.span.set("tripline.alerts", i64::try_from(alerts).unwrap_or(i64::MAX));
        }
    }

    /// The header of an alert's record, if its tick is traced.
    pub fn header(&self, alert: AlertSeq) -> Option<(HeaderName, Bytes)> {
        let at = self.0.partition_point(|told| told.last < alert);
        let told = self.0.get(at).filter(|told| told.after < alert)?;
        told.span.parent().map(|parent| parent.header())
    }

    /// The spans of this step end.
    pub fn end(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_tick_without_a_header_is_not_noted() {
        let mut traced = Traced::default();
        let record = Record {
            key: None,
            value: Bytes::new(),
            headers: Default::default(),
            time: Timestamp::MIN,
        };
        traced.note(&record, AlertSeq(0), AlertSeq(1));
        traced.begin();
        assert!(traced.0.is_empty() && traced.header(AlertSeq(1)).is_none());
    }
}
