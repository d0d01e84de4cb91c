//! The codec of the records between nodes: protobuf, with the schema's name in a header.

use std::num::NonZero;

use bytes::Bytes;
use prost::Message;
use smallvec::smallvec;

use super::broker::{HeaderName, Record};
use crate::model::{
    Alert, AlertId, Condition, Currency, CurrencyError, MarketState, Price, Symbol, SymbolError,
    Tick, Timestamp, UserId, Version, WatchId,
};
use crate::proto::records;

/// The topic from the collector to the evaluator.
pub const TICKS_TOPIC: &str = "to-alert-system";
/// The topic from the evaluator to the notifier.
pub const ALERTS_TOPIC: &str = "to-notifier";

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
        market: tick.market.map_or(records::MarketState::Unspecified, market_code).into(),
    };
    record(TICK_SCHEMA, &tick.symbol, message.encode_to_vec(), accepted)
}

/// A tick as its record has it: the symbol is not checked, since a reader knows nearly all of them
/// already.
#[derive(Clone, Copy, Debug)]
pub struct RawTick<'a> {
    /// The record's key, empty where there is none.
    pub key: &'a [u8],
    /// The instant of the price.
    pub time: Timestamp,
    /// The price.
    pub price: Price,
    /// The state of its market, where the record states one that is known here.
    pub market: Option<MarketState>,
    /// The currency, where the record states one.
    pub currency: Option<Currency>,
}

impl RawTick<'_> {
    /// What is priced.
    pub fn symbol(&self) -> Result<Symbol, DecodeError> {
        Ok(Symbol::from_bytes(self.key)?)
    }
}

/// Reads the tick of a record, all but its symbol.
pub fn read_tick(record: &Record) -> Result<RawTick<'_>, DecodeError> {
    check_schema(record, TICK_SCHEMA)?;
    let key = record.key.as_deref().unwrap_or_default();
    if let Some((time_ms, units, currency, market)) = plain_tick(&record.value) {
        return raw_tick(key, time_ms, units, currency, market);
    }
    let message = records::Tick::decode(record.value.as_ref())
        .map_err(|error| DecodeError::Malformed(TICK_SCHEMA, error.to_string()))?;
    raw_tick(key, message.time_ms, message.price, message.currency.as_bytes(), message.market)
}

#[inline]
fn raw_tick<'a>(
    key: &'a [u8],
    time_ms: i64,
    units: u64,
    currency: &[u8],
    market: i32,
) -> Result<RawTick<'a>, DecodeError> {
    Ok(RawTick {
        key,
        time: time("time_ms", time_ms)?,
        price: price("price", units)?,
        market: market_state(market),
        currency: if currency.is_empty() { None } else { Some(Currency::from_bytes(currency)?) },
    })
}

/// The tick of a record.
pub fn decode_tick(record: &Record) -> Result<Tick, DecodeError> {
    let raw = read_tick(record)?;
    let RawTick { time, price, market, currency, .. } = raw;
    Ok(Tick { symbol: raw.symbol()?, time, price, currency, market })
}

/// The fields of a message that is written as encoders write it: every field once, in order. It
/// is read in place, because every tick comes by here; `None` for whatever else protobuf allows.
fn plain_tick(value: &[u8]) -> Option<(i64, u64, &[u8], i32)> {
    const TIME_MS: u8 = 1 << 3;
    const PRICE: u8 = 2 << 3 | 1;
    const CURRENCY: u8 = 3 << 3 | 2;
    const MARKET: u8 = 4 << 3;
    let [TIME_MS, rest @ ..] = value else { return None };
    let (zigzag, rest) = short_varint(rest)?;
    let time_ms = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    let [PRICE, rest @ ..] = rest else { return None };
    let (price, rest) = rest.split_first_chunk()?;
    let (currency, rest) = match rest {
        [CURRENCY, length, rest @ ..] if *length < 0x80 => {
            rest.split_at_checked(usize::from(*length))?
        }
        rest => (&[][..], rest),
    };
    let market = match rest {
        [] => 0,
        [MARKET, market] if *market < 0x80 => i32::from(*market),
        _ => return None,
    };
    Some((time_ms, u64::from_le_bytes(*price), currency, market))
}

/// Takes a varint of up to 8 bytes off the front; something must follow it, so that there are 8. A
/// date of this millennium takes 6 bytes, and a time stamp never more.
fn short_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    // The first byte without its uppermost bit is the last.
    let last = NonZero::new(!word & 0x8080_8080_8080_8080)?;
    let bits = last.trailing_zeros() + 1;
    let word = word & (u64::MAX >> (64 - bits));
    // Groups of 7 bits are joined to 14, 28 and 56.
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    let word = (word & 0x0000_0000_0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4;
    Some((word, &bytes[bits as usize / 8..]))
}

fn market_code(state: MarketState) -> records::MarketState {
    match state {
        MarketState::Pre => records::MarketState::Pre,
        MarketState::Regular => records::MarketState::Regular,
        MarketState::Post => records::MarketState::Post,
        MarketState::Closed => records::MarketState::Closed,
    }
}

/// The state of a code. One that a later version has added is no reason to refuse a price.
fn market_state(code: i32) -> Option<MarketState> {
    match records::MarketState::try_from(code).ok()? {
        records::MarketState::Unspecified => None,
        records::MarketState::Pre => Some(MarketState::Pre),
        records::MarketState::Regular => Some(MarketState::Regular),
        records::MarketState::Post => Some(MarketState::Post),
        records::MarketState::Closed => Some(MarketState::Closed),
    }
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
        headers: smallvec![(HeaderName::SCHEMA, Bytes::from_static(schema.as_bytes()))],
        time,
    }
}

/// A header's value that is the name of a known schema, which most are: it takes no memory, nor a
/// share of the memory that it was read from.
pub(crate) fn known_schema(value: &[u8]) -> Option<Bytes> {
    let known = [TICK_SCHEMA, ALERT_SCHEMA].into_iter().find(|known| known.as_bytes() == value);
    known.map(|known| Bytes::from_static(known.as_bytes()))
}

/// The header that the records of a topic bear.
pub fn schema_header(topic: &str) -> Option<(HeaderName, Bytes)> {
    let schema = match topic {
        TICKS_TOPIC => TICK_SCHEMA,
        ALERTS_TOPIC => ALERT_SCHEMA,
        _ => return None,
    };
    Some((HeaderName::SCHEMA, Bytes::from_static(schema.as_bytes())))
}

#[inline]
fn check_schema(record: &Record, expected: &'static str) -> Result<(), DecodeError> {
    let header = record.headers.iter().find(|(name, _)| *name == HeaderName::SCHEMA);
    match header {
        Some((_, found)) if found.as_ref() == expected.as_bytes() => Ok(()),
        other => Err(other_schema(expected, other.map(|(_, found)| &found[..]))),
    }
}

#[cold]
fn other_schema(expected: &'static str, found: Option<&[u8]>) -> DecodeError {
    let text = |found| String::from_utf8_lossy(found).chars().take(100).collect();
    DecodeError::Schema { expected, found: found.map_or_else(|| "no header".to_owned(), text) }
}

fn symbol(record: &Record) -> Result<Symbol, DecodeError> {
    Ok(Symbol::from_bytes(record.key.as_deref().unwrap_or_default())?)
}

#[inline]
fn time(field: &'static str, millis: i64) -> Result<Timestamp, DecodeError> {
    Timestamp::from_millis(millis).ok_or_else(|| out_of_range(field, millis))
}

#[inline]
fn price(field: &'static str, units: u64) -> Result<Price, DecodeError> {
    i64::try_from(units).ok().and_then(Price::from_units).ok_or_else(|| out_of_range(field, units))
}

#[cold]
fn out_of_range(field: &'static str, found: impl ToString) -> DecodeError {
    DecodeError::OutOfRange(field, found.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tick() -> Tick {
        Tick {
            symbol: "M&M.NS".parse().unwrap(),
            time: "2000-03-01T14:30:00.5Z".parse().unwrap(),
            price: "118.56".parse().unwrap(),
            currency: Some("GBp".parse().unwrap()),
            market: Some(MarketState::Post),
        }
    }

    #[test]
    fn ticks_and_alerts_survive_the_round_trip() {
        let now = Timestamp::from_millis(7).unwrap();
        assert_eq!(decode_tick(&encode_tick(&tick(), now)), Ok(tick()));
        for bare in [
            Tick { currency: None, ..tick() },
            Tick { market: None, ..tick() },
            Tick { currency: None, market: None, ..tick() },
        ] {
            assert_eq!(decode_tick(&encode_tick(&bare, now)), Ok(bare));
        }
        let alert = Alert {
            id: "17-3-951921000000-below".parse().unwrap(),
            user: UserId(9),
            symbol: tick().symbol,
            price: Price::MIN,
            threshold: Price::MAX,
        };
        assert_eq!(decode_alert(&encode_alert(&alert, tick().time, now)), Ok((alert, tick().time)));
    }

    proptest! {
        #[test]
        fn a_message_is_read_in_place_as_protobuf_reads_it(
            time_ms in prop_oneof![any::<i64>(), -70_000i64..70_000, 0i64..4_000_000_000_000],
            price in any::<u64>(),
            currency in "[A-Za-z]{0,8}",
            market in prop_oneof![0i32..6, any::<i32>()],
            cut in 0usize..30,
            wrong in any::<(usize, u8)>(),
        ) {
            let mut value = records::Tick { time_ms, price, currency, market }.encode_to_vec();
            // A currency that is no text is refused later, as one.
            let plain = |value: &[u8]| {
                let (time_ms, price, currency, market) = plain_tick(value)?;
                let currency = String::from_utf8(currency.to_owned()).ok()?;
                Some(records::Tick { time_ms, price, currency, market })
            };
            let decoded = |value: &[u8]| records::Tick::decode(value).ok();
            for bytes in [&value[..], &value[..cut.min(value.len())]] {
                if let Some(found) = plain(bytes) {
                    prop_assert_eq!(decoded(bytes), Some(found));
                }
            }
            if let Some(at) = wrong.0.checked_rem(value.len()) {
                value[at] = wrong.1;
                if let Some(found) = plain(&value) {
                    prop_assert_eq!(decoded(&value), Some(found));
                }
            }
        }
    }

    /// A tick as the versions before the market's state knew it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct OldTick {
        #[prost(sint64, tag = "1")]
        time_ms: i64,
        #[prost(fixed64, tag = "2")]
        price: u64,
        #[prost(string, tag = "3")]
        currency: String,
    }

    #[test]
    fn versions_with_and_without_the_market_read_each_other() {
        let new = encode_tick(&tick(), Timestamp::default());
        let old = OldTick::decode(new.value.as_ref()).unwrap();
        assert_eq!((old.time_ms, old.currency.as_str()), (tick().time.millis(), "GBp"));
        assert_eq!(old.price, tick().price.units().unsigned_abs());
        let mut record = Record { value: old.encode_to_vec().into(), ..new.clone() };
        assert_eq!(decode_tick(&record), Ok(Tick { market: None, ..tick() }));
        // A state that only a later version knows, and fields of its own after it.
        for later in [&[4 << 3, 9][..], &[4 << 3, 0xac, 0x02], &[4 << 3, 3, 9 << 3, 1]] {
            record.value = [&old.encode_to_vec(), later].concat().into();
            let market = (later[1] == 3).then_some(MarketState::Post);
            assert_eq!(decode_tick(&record), Ok(Tick { market, ..tick() }), "{later:?}");
        }
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
