//! The codec of the records between nodes: protobuf, with the schema's name in a header.

use bytes::Bytes;
use prost::Message;

use super::broker::Record;
use crate::model::{
    Alert, AlertId, Condition, CurrencyError, Price, Symbol, SymbolError, Tick, Timestamp, UserId,
    Version, WatchId,
};
use crate::proto::records;

/// The topic from the collector to the evaluator.
pub const TICKS_TOPIC: &str = "to-alert-system";
/// The topic from the evaluator to the notifier.
pub const ALERTS_TOPIC: &str = "to-notifier";

const SCHEMA_HEADER: &str = "schema";
const TICK_SCHEMA: &str = "tripline.records.v1.Tick";
const ALERT_SCHEMA: &str = "tripline.records.v1.Alert";

/// Why a record does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Of another schema.
    #[error("expected the schema {expected}, found {found:?}")]
    Schema {
        /// What the topic carries.
        expected: &'static str,
        /// What the header says.
        found: String,
    },
    /// No protobuf message.
    #[error("the value is no message of {0}: {1}")]
    Malformed(&'static str, String),
    /// A key that is no symbol.
    #[error("the key is no symbol: {0}")]
    Symbol(#[from] SymbolError),
    /// A currency that is none.
    #[error("the field currency: {0}")]
    Currency(#[from] CurrencyError),
    /// A number out of range.
    #[error("the field {0} is out of range: found {1}")]
    OutOfRange(&'static str, String),
}

/// The record of a tick that is accepted at `accepted`.
pub fn encode_tick(tick: &Tick, accepted: Timestamp) -> Record {
    let message = records::Tick {
        time_ms: tick.time.millis(),
        price: tick.price.units().unsigned_abs(),
        currency: tick.currency.map(|currency| currency.to_string()).unwrap_or_default(),
    };
    record(TICK_SCHEMA, &tick.symbol, message.encode_to_vec(), accepted)
}

/// The tick of a record.
pub fn decode_tick(record: &Record) -> Result<Tick, DecodeError> {
    check_schema(record, TICK_SCHEMA)?;
    let message = records::Tick::decode(record.value.as_ref())
        .map_err(|error| DecodeError::Malformed(TICK_SCHEMA, error.to_string()))?;
    let currency = match message.currency.as_str() {
        "" => None,
        text => Some(text.parse()?),
    };
    Ok(Tick {
        symbol: symbol(record)?,
        time: time("time_ms", message.time_ms)?,
        price: price("price", message.price)?,
        currency,
    })
}

/// The record of an alert whose tick was accepted at `accepted`, made at `now`.
pub fn encode_alert(alert: &Alert, accepted: Timestamp, now: Timestamp) -> Record {
    let message = records::Alert {
        watch_id: alert.id.watch.0,
        version: alert.id.version.0,
        time_ms: alert.id.time.millis(),
        condition: match alert.id.condition {
            Condition::Above => records::Condition::Above,
            Condition::Below => records::Condition::Below,
        }
        .into(),
        user_id: alert.user.0,
        price: alert.price.units().unsigned_abs(),
        threshold: alert.threshold.units().unsigned_abs(),
        accepted_ms: accepted.millis(),
    };
    record(ALERT_SCHEMA, &alert.symbol, message.encode_to_vec(), now)
}

/// The alert of a record, and when its tick was accepted.
pub fn decode_alert(record: &Record) -> Result<(Alert, Timestamp), DecodeError> {
    check_schema(record, ALERT_SCHEMA)?;
    let message = records::Alert::decode(record.value.as_ref())
        .map_err(|error| DecodeError::Malformed(ALERT_SCHEMA, error.to_string()))?;
    let condition = match message.condition() {
        records::Condition::Above => Condition::Above,
        records::Condition::Below => Condition::Below,
        records::Condition::Unspecified => {
            return Err(DecodeError::OutOfRange("condition", message.condition.to_string()));
        }
    };
    let id = AlertId {
        watch: WatchId(message.watch_id),
        version: Version(message.version),
        time: time("time_ms", message.time_ms)?,
        condition,
    };
    let alert = Alert {
        id,
        user: UserId(message.user_id),
        symbol: symbol(record)?,
        price: price("price", message.price)?,
        threshold: price("threshold", message.threshold)?,
    };
    Ok((alert, time("accepted_ms", message.accepted_ms)?))
}

fn record(schema: &'static str, symbol: &Symbol, value: Vec<u8>, time: Timestamp) -> Record {
    Record {
        key: Some(Bytes::copy_from_slice(symbol.as_bytes())),
        value: value.into(),
        headers: vec![(SCHEMA_HEADER.to_owned(), Bytes::from_static(schema.as_bytes()))],
        time,
    }
}

/// The header that the records of a topic bear.
pub fn schema_header(topic: &str) -> Option<(String, Bytes)> {
    let schema = match topic {
        TICKS_TOPIC => TICK_SCHEMA,
        ALERTS_TOPIC => ALERT_SCHEMA,
        _ => return None,
    };
    Some((SCHEMA_HEADER.to_owned(), Bytes::from_static(schema.as_bytes())))
}

fn check_schema(record: &Record, expected: &'static str) -> Result<(), DecodeError> {
    let header = record.headers.iter().find(|(name, _)| name == SCHEMA_HEADER);
    match header {
        Some((_, found)) if found.as_ref() == expected.as_bytes() => Ok(()),
        other => Err(DecodeError::Schema {
            expected,
            found: other.map_or_else(
                || "no header".to_owned(),
                |(_, found)| String::from_utf8_lossy(found).chars().take(100).collect(),
            ),
        }),
    }
}

fn symbol(record: &Record) -> Result<Symbol, DecodeError> {
    Ok(Symbol::from_bytes(record.key.as_deref().unwrap_or_default())?)
}

fn time(field: &'static str, millis: i64) -> Result<Timestamp, DecodeError> {
    Timestamp::from_millis(millis).ok_or_else(|| DecodeError::OutOfRange(field, millis.to_string()))
}

fn price(field: &'static str, units: u64) -> Result<Price, DecodeError> {
    i64::try_from(units)
        .ok()
        .and_then(Price::from_units)
        .ok_or_else(|| DecodeError::OutOfRange(field, units.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick() -> Tick {
        Tick {
            symbol: "M&M.NS".parse().unwrap(),
            time: "2000-03-01T14:30:00.5Z".parse().unwrap(),
            price: "118.56".parse().unwrap(),
            currency: Some("GBp".parse().unwrap()),
        }
    }

    #[test]
    fn ticks_and_alerts_survive_the_round_trip() {
        let now = Timestamp::from_millis(7).unwrap();
        assert_eq!(decode_tick(&encode_tick(&tick(), now)), Ok(tick()));
        let bare = Tick { currency: None, ..tick() };
        assert_eq!(decode_tick(&encode_tick(&bare, now)), Ok(bare));
        let alert = Alert {
            id: "17-3-951921000000-below".parse().unwrap(),
            user: UserId(9),
            symbol: tick().symbol,
            price: Price::MIN,
            threshold: Price::MAX,
        };
        assert_eq!(decode_alert(&encode_alert(&alert, tick().time, now)), Ok((alert, tick().time)));
    }

    #[test]
    fn what_does_not_decode_says_why() {
        let good = encode_tick(&tick(), Timestamp::default());
        let check = |change: fn(&mut Record), part: &str| {
            let mut record = good.clone();
            change(&mut record);
            let error = decode_tick(&record).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(|record| record.headers.clear(), "found \"no header\"");
        check(|record| record.headers[0].1 = "x".into(), "found \"x\"");
        check(|record| record.key = None, "no symbol");
        check(|record| record.value = Bytes::from_static(b"\xff\xff"), "no message of");
        check(|record| record.value = Bytes::new(), "price is out of range: found 0");
    }
}
