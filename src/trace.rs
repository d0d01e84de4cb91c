//! Traces: spans from the door to the mail, and the W3C trace context that records carry.
//!
//! Nothing is traced until a tracer is [installed](install), and then only what is sampled: the
//! first span of a way decides, and those after it follow.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

pub use opentelemetry::trace::SpanKind;

use crate::pipeline::broker::{HeaderName, Record};

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces with `tracer` from here on. The first one of a process stays.
pub fn install(tracer: SdkTracer) {
    // A second one would tear traces apart.
    let _ = TRACER.set(tracer);
}

/// The span that goes before: what the header says. Only sampled ones are passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
}

impl TraceParent {
    /// Reads `00-TRACE-SPAN-FLAGS`; `None` for anything else and for what is not sampled.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        let flags = u8::from_str_radix(parts.next().filter(|text| text.len() == 2)?, 16).ok()?;
        // A later version may have more parts.
        let is_known = version == "00" && parts.next().is_none()
            || version.len() == 2 && version != "00" && version != "ff";
        if !is_known || trace.len() != 32 || span.len() != 16 || flags & 1 == 0 {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        is_valid.then_some(Self { trace, span })
    }

    /// What a record's header says, if it has one.
    pub fn of(record: &Record) -> Option<Self> {
        let header = record.headers.iter().find(|(name, _)| *name == HeaderName::TRACEPARENT);
        header.and_then(|(_, value)| Self::parse(value))
    }

    /// The header to put into a record.
    pub fn header(&self) -> (HeaderName, Bytes) {
        (HeaderName::TRACEPARENT, self.to_text().into())
    }

    /// What [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.span)
    }

    /// The id that all spans of the way share, for the log.
    pub fn trace_id(&self) -> impl fmt::Display + use<> {
        self.trace
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.trace, self.span)
    }
}

/// A stretch of the way, until it is dropped. Costs nothing where nothing is traced.
#[derive(Debug, Default)]
pub struct Span(Option<SdkSpan>);

impl Span {
    /// The first span of a way, if it is sampled.
    pub fn first(name: &'static str, kind: SpanKind) -> Self {
        Self::start(name, kind, &Context::new())
    }

    /// A span that follows `parent`; none where there is none.
    pub fn after(parent: Option<TraceParent>, name: &'static str, kind: SpanKind) -> Self {
        let Some(TraceParent { trace, span }) = parent else { return Self(None) };
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
        let parent = SpanContext::new(trace, span, flags, true, state);
        Self::start(name, kind, &Context::new().with_remote_span_context(parent))
    }

    fn start(name: &'static str, kind: SpanKind, parent: &Context) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let builder = tracer.span_builder(name).with_kind(kind);
        let span = tracer.build_with_context(builder, parent);
        Self(Some(span).filter(|span| span.span_context().is_sampled()))
    }

    /// What follows it names this; `None` where nothing is traced.
    pub fn parent(&self) -> Option<TraceParent> {
        let context = self.0.as_ref()?.span_context();
        Some(TraceParent { trace: context.trace_id(), span: context.span_id() })
    }

    /// States something of it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// States an id, which is only made into text where it is traced.
    pub fn set_id(&mut self, key: &'static str, id: impl fmt::Display) {
        if self.0.is_some() {
            self.set(key, id.to_string());
        }
    }

    /// Says that what it stands for failed.
    pub fn failed(&mut self, error: impl fmt::Display) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_as_it_is_written() {
        let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parent.header(), (HeaderName::TRACEPARENT, Bytes::from_static(GOOD.as_bytes())));
        assert_eq!(parent.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("cc{}-more", &GOOD[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()), Some(parent));
    }

    #[test]
    fn what_is_no_header_or_not_sampled_is_left_alone() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-x"),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.replace("-01", "-00"),
            &GOOD.replace("4bf9", "4bg9"),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            "00-é",
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(TraceParent::parse(b"\xff\xff"), None);
    }

    #[test]
    fn nothing_is_traced_without_a_parent() {
        assert_eq!(Span::after(None, "x", SpanKind::Internal).parent(), None);
    }
}
