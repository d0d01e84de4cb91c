//! Records as lines of JSON, and back.

use std::fmt;
use std::str::FromStr;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::model::{Alert, Partition, Tick, Timestamp, UserId};
use crate::pipeline::broker::{Placed, Record};
use crate::pipeline::record::{
    ALERTS_TOPIC, TICKS_TOPIC, decode_alert, decode_tick, encode_alert, encode_tick,
};
use crate::trace::TraceParent;

/// A topic that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Ticks,
    Alerts,
}

impl Topic {
    pub(super) const ALL: [Self; 2] = [Self::Ticks, Self::Alerts];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ticks => TICKS_TOPIC,
            Self::Alerts => ALERTS_TOPIC,
        }
    }
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ticks" | TICKS_TOPIC => Ok(Self::Ticks),
            "alerts" | ALERTS_TOPIC => Ok(Self::Alerts),
            other => Err(format!(
                "expected {TICKS_TOPIC} (or ticks) or {ALERTS_TOPIC} (or alerts), found {other:?}"
            )),
        }
    }
}

/// One record and its place. What was made from it is what [`produce`](parse) takes.
#[derive(Serialize)]
pub(super) struct Line {
    partition: u32,
    offset: u64,
    recorded: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(flatten)]
    content: Content,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Tick {
        symbol: String,
        time: String,
        price: String,
        currency: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        market: Option<String>,
    },
    Alert {
        id: String,
        user_id: u32,
        symbol: String,
        price: String,
        threshold: String,
        accepted: String,
    },
    /// One that does not decode.
    Other { error: String, key_hex: Option<String>, value_hex: String },
}

/// What a record says.
pub(super) fn line(topic: Topic, partition: Partition, placed: &Placed) -> Line {
    let record = &placed.record;
    let content = match topic {
        Topic::Ticks => decode_tick(record).map(|tick| Content::Tick {
            symbol: tick.symbol.to_string(),
            time: tick.time.to_string(),
            price: tick.price.to_string(),
            currency: tick.currency.map(|currency| currency.to_string()),
            market: tick.market.map(|market| market.to_string()),
        }),
        Topic::Alerts => decode_alert(record).map(|(alert, accepted)| Content::Alert {
            id: alert.id.to_string(),
            user_id: alert.user.0,
            symbol: alert.symbol.to_string(),
            price: alert.price.to_string(),
            threshold: alert.threshold.to_string(),
            accepted: accepted.to_string(),
        }),
    };
    Line {
        partition: partition.0,
        offset: placed.offset.0,
        recorded: record.time.to_string(),
        trace_id: TraceParent::of(record).map(|parent| parent.trace_id().to_string()),
        content: content.unwrap_or_else(|error| Content::Other {
            error: error.to_string(),
            key_hex: record.key.as_ref().map(hex::encode),
            value_hex: hex::encode(&record.value),
        }),
    }
}

/// A line's fields, beside those that [`line`] adds: they are read over when they come back.
macro_rules! line_of {
    ($name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "places are read over")]
        struct $name {
            $($field: $type,)+
            #[serde(default)]
            partition: IgnoredAny,
            #[serde(default)]
            offset: IgnoredAny,
            #[serde(default)]
            recorded: IgnoredAny,
            #[serde(default)]
            trace_id: IgnoredAny,
        }
    };
}
line_of!(TickLine {
    symbol: String,
    time: String,
    price: String,
    currency: Option<String>,
    market: Option<String>,
});
line_of!(AlertLine {
    id: String,
    user_id: u32,
    symbol: String,
    price: String,
    threshold: String,
    accepted: String,
});

/// The record that a line stands for, as if it were made at `now`.
pub(super) fn parse(topic: Topic, line: &str, now: Timestamp) -> Result<Record, String> {
    match topic {
        Topic::Ticks => {
            let TickLine { symbol, time, price, currency, market, .. } = json(line)?;
            let tick = Tick {
                symbol: field("symbol", &symbol)?,
                time: field("time", &time)?,
                price: field("price", &price)?,
                currency: currency.map(|text| field("currency", &text)).transpose()?,
                market: market.map(|text| field("market", &text)).transpose()?,
            };
            Ok(encode_tick(&tick, now))
        }
        Topic::Alerts => {
            let AlertLine { id, user_id, symbol, price, threshold, accepted, .. } = json(line)?;
            let alert = Alert {
                id: field("id", &id)?,
                user: UserId(user_id),
                symbol: field("symbol", &symbol)?,
                price: field("price", &price)?,
                threshold: field("threshold", &threshold)?,
            };
            Ok(encode_alert(&alert, field("accepted", &accepted)?, now))
        }
    }
}

fn json<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        // Every line is line 1 of its own.
        text.split(" at line 1").next().unwrap_or(&text).to_owned()
    })
}

fn field<T: FromStr<Err: fmt::Display>>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Offset;

    fn shown(topic: Topic, record: Record) -> String {
        let placed = Placed { offset: Offset(7), record };
        serde_json::to_string(&line(topic, Partition(2), &placed)).unwrap()
    }

    #[test]
    fn what_is_shown_can_be_produced_again() {
        let now = Timestamp::from_millis(1_000).unwrap();
        for (topic, text) in [
            (
                Topic::Ticks,
                r#"{"symbol":"AAPL","time":"2000-03-01T14:30:00Z","price":"118.5","currency":null}"#,
            ),
            (
                Topic::Ticks,
                r#"{"symbol":"AAPL","time":"2000-03-01T14:30:00Z","price":"118.5","currency":"USD","market":"post"}"#,
            ),
            (
                Topic::Alerts,
                r#"{"id":"17-3-951921000000-below","user_id":9,"symbol":"AAPL","price":"1","threshold":"2","accepted":"2000-03-01T14:30:00Z"}"#,
            ),
        ] {
            let record = parse(topic, text, now).unwrap();
            let line = shown(topic, record.clone());
            let place = r#"{"partition":2,"offset":7,"recorded":"1970-01-01T00:00:01Z","#;
            assert_eq!(line, text.replacen('{', place, 1));
            assert_eq!(parse(topic, &line, now), Ok(record));
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        for (topic, line, part) in [
            (Topic::Ticks, "", "EOF while parsing"),
            (Topic::Ticks, r#"{"symbol":"A"}"#, "missing field `time`"),
            (Topic::Ticks, r#"{"symbol":"A","tiem":"x"}"#, "unknown field `tiem`"),
            (Topic::Ticks, r#"{"symbol":"A","time":"x","price":"1"}"#, "time: expected"),
            (
                Topic::Alerts,
                r#"{"id":"x","user_id":9,"symbol":"A","price":"1","threshold":"2","accepted":"x"}"#,
                "id: expected an alert id such as",
            ),
        ] {
            let error = parse(topic, line, Timestamp::MIN).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn what_does_not_decode_is_shown_as_bytes() {
        let mut record = parse(
            Topic::Ticks,
            r#"{"symbol":"A","time":"2000-03-01T14:30:00Z","price":"1"}"#,
            Timestamp::MIN,
        )
        .unwrap();
        record.value = vec![0xff].into();
        let line = shown(Topic::Ticks, record);
        assert!(line.contains(r#""key_hex":"41","value_hex":"ff"}"#), "{line}");
    }
}
