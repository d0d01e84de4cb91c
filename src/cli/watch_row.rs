//! How a watch is printed: what it waits for, and what it does at present.

use serde::Serialize;

use super::output::{Cell, Row, Tone, age_s, duration, some};
use crate::model::Timestamp;
use crate::proto::v1::{Policy, Watch, WatchStatus};

/// A watch as JSON and as a row.
#[derive(Serialize)]
pub(super) struct WatchRow<'a> {
    id: u64,
    symbol: &'a str,
    low: Option<&'a str>,
    high: Option<&'a str>,
    policy: &'static str,
    step: Option<&'a str>,
    hysteresis: Option<&'a str>,
    cooldown_s: u64,
    last_price: Option<&'a str>,
    last_currency: Option<&'a str>,
    last_time: Option<&'a str>,
    last_age_s: Option<u64>,
    state: &'static str,
    reason: Option<&'a str>,
    told: Option<&'a str>,
    version: u32,
}

impl<'a> WatchRow<'a> {
    pub(super) fn new(watch: &'a Watch, now: Timestamp) -> Self {
        let last = watch.last.as_ref();
        Self {
            id: watch.id,
            symbol: &watch.symbol,
            low: some(&watch.low),
            high: some(&watch.high),
            policy: match watch.policy() {
                Policy::Crossing => "crossing",
                Policy::Step => "step",
                Policy::Once => "once",
                Policy::Unspecified => "unknown",
            },
            step: some(&watch.step),
            hysteresis: some(&watch.hysteresis),
            cooldown_s: watch.cooldown_seconds,
            last_price: last.map(|quote| quote.price.as_str()),
            last_currency: last.and_then(|quote| some(&quote.currency)),
            last_time: last.map(|quote| quote.time.as_str()),
            last_age_s: last.and_then(|quote| age_s(now, &quote.time)),
            state: match watch.status() {
                WatchStatus::Armed => "armed",
                WatchStatus::Told => "told",
                WatchStatus::Done => "done",
                WatchStatus::Paused => "paused",
                WatchStatus::NoPrice => "no price",
                WatchStatus::Unspecified => "unknown",
            },
            reason: some(&watch.status_reason),
            told: some(&watch.told),
            version: watch.version,
        }
    }

    fn policy(&self) -> Cell {
        let mut text = self.policy.to_owned();
        let cooldown = (self.cooldown_s > 0).then(|| duration(self.cooldown_s));
        for (name, value) in [
            ("", self.step),
            ("hysteresis ", self.hysteresis.filter(|hysteresis| *hysteresis != "0")),
            ("cooldown ", cooldown.as_deref()),
        ] {
            if let Some(value) = value {
                text.push_str(if text.len() == self.policy.len() { " " } else { ", " });
                text.push_str(name);
                text.push_str(value);
            }
        }
        Cell::text(&text)
    }

    fn state(&self) -> Cell {
        let tone = match self.state {
            "armed" => Tone::Good,
            "told" => Tone::Warning,
            "no price" => Tone::Bad,
            _ => Tone::Quiet,
        };
        let text = match (self.reason, self.told) {
            (Some(reason), _) => format!("{}: {reason}", self.state),
            (None, Some(told)) if matches!(self.state, "told" | "done") => {
                format!("{} {told}", self.state)
            }
            _ => self.state.to_owned(),
        };
        Cell::text(&text).tone(tone)
    }
}

impl Row for WatchRow<'_> {
    const COLUMNS: &'static [&'static str] =
        &["ID", "SYMBOL", "LOW", "HIGH", "POLICY", "LAST", "AGE", "STATE"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::number(&self.id.to_string()),
            Cell::text(self.symbol),
            Cell::number(self.low.unwrap_or_default()),
            Cell::number(self.high.unwrap_or_default()),
            self.policy(),
            Cell::number(self.last_price.unwrap_or_default()),
            Cell::number(&self.last_age_s.map(duration).unwrap_or_default()).tone(Tone::Quiet),
            self.state(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Output;
    use super::*;
    use crate::proto::v1::Quote;

    #[test]
    fn a_row_says_what_the_watch_waits_for_and_does() {
        let now = "2000-03-01T14:30:12Z".parse().unwrap();
        let watch = Watch {
            id: 7,
            symbol: "AAPL".into(),
            low: "90".into(),
            high: "120.50".into(),
            ..Watch::default()
        };
        let last =
            Quote { price: "118".into(), time: "2000-03-01T14:30:00Z".into(), ..Quote::default() };
        let mut watches = vec![watch; 5];
        for (watch, (policy, status)) in watches.iter_mut().zip([
            (Policy::Crossing, WatchStatus::Armed),
            (Policy::Step, WatchStatus::Told),
            (Policy::Once, WatchStatus::Done),
            (Policy::Crossing, WatchStatus::Paused),
            (Policy::Crossing, WatchStatus::NoPrice),
        ]) {
            watch.set_policy(policy);
            watch.set_status(status);
            watch.last = Some(last.clone());
        }
        watches[1].step = "2".into();
        watches[1].told = "above".into();
        (watches[3].hysteresis, watches[3].cooldown_seconds) = ("0.5".into(), 3600);
        (watches[4].last, watches[4].status_reason) = (None, "unknown symbol".into());
        let rows: Vec<_> = watches.iter().map(|watch| WatchRow::new(watch, now)).collect();
        let expected = "
ID  SYMBOL  LOW    HIGH  POLICY                                    LAST   AGE  STATE
 7  AAPL     90  120.50  crossing                                   118  12 s  armed
 7  AAPL     90  120.50  step 2                                     118  12 s  told above
 7  AAPL     90  120.50  once                                       118  12 s  done
 7  AAPL     90  120.50  crossing hysteresis 0.5, cooldown 60 min   118  12 s  paused
 7  AAPL     90  120.50  crossing                                              no price: unknown symbol
";
        assert_eq!(format!("\n{}", Output::plain().render(&rows, "").unwrap()), expected);
    }
}
