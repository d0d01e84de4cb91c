//! Alerts as JSON lines. What a watch's lines have in common is made once, when it is read,
//! so that a line is a few copies into one buffer.

use std::io::{self, Write};

use crate::model::{Alert, Condition, Email, Price, Timestamp, WatchId, WatchSpec};

/// How much is written at a time.
const BUFFER_BYTES: usize = 256 * 1024;

const TIME: &[u8] = br#"{"time":""#;
const ABOVE: &[u8] = br#"above","price":""#;
const BELOW: &[u8] = br#"below","price":""#;

/// The constant parts of one watch's lines.
struct Parts {
    /// From the end of the time to the condition.
    head: Box<[u8]>,
    /// From the end of the price to the line's end, when the high threshold was crossed;
    /// empty without one.
    above: Box<[u8]>,
    /// The same of the low threshold.
    below: Box<[u8]>,
}

/// A writer of alerts, with its watches numbered from 1 in the order of their adding.
pub(super) struct Lines<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    watches: Vec<Parts>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, buffer: Vec::with_capacity(2 * BUFFER_BYTES), watches: Vec::new() }
    }

    /// Adds a watch; gives its number.
    pub(super) fn add(&mut self, email: &Email, spec: &WatchSpec) -> WatchId {
        let email = serde_json::Value::from(email.as_str());
        let symbol = spec.symbol();
        let head = format!(r#"","email":{email},"symbol":"{symbol}","condition":""#);
        let end = |threshold: Option<Price>| {
            let line = threshold.map(|threshold| format!("\",\"threshold\":\"{threshold}\"}}\n"));
            line.unwrap_or_default().into_bytes().into_boxed_slice()
        };
        let (above, below) = (end(spec.high()), end(spec.low()));
        self.watches.push(Parts { head: head.into_bytes().into_boxed_slice(), above, below });
        WatchId(self.watches.len() as u64)
    }

    /// Writes the alerts of one tick.
    pub(super) fn write(
        &mut self,
        time: Timestamp,
        price: Price,
        alerts: &[Alert],
    ) -> io::Result<()> {
        if alerts.is_empty() {
            return Ok(());
        }
        let (time, price) = (time.to_string(), price.to_string());
        for alert in alerts {
            let place = usize::try_from(alert.id.watch.0).unwrap_or(0).wrapping_sub(1);
            let Some(parts) = self.watches.get(place) else {
                let watch = alert.id.watch;
                return Err(io::Error::other(format!(
                    "expected a watch of the file, found {watch}"
                )));
            };
            let (condition, end) = match alert.id.condition {
                Condition::Above => (ABOVE, &parts.above),
                Condition::Below => (BELOW, &parts.below),
            };
            for part in [TIME, time.as_bytes(), &parts.head, condition, price.as_bytes(), end] {
                self.buffer.extend_from_slice(part);
            }
            if self.buffer.len() >= BUFFER_BYTES {
                self.drain()?;
            }
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.drain()?;
        self.out.flush()
    }

    fn drain(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
