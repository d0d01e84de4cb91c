//! Readers of single values: prices, times, names, ids.

use std::time::Duration;

use tripline::fuzzing;
use tripline::model::{AlertId, Currency, Decimal, Email, Price, Symbol, Timestamp};

use super::{check, check_message, round_trip, texts};

/// Prices and price distances as text.
pub fn decimals(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<Decimal>(text);
    check::<Price>(text);
    if let Ok(price) = text.parse::<Price>() {
        assert_eq!(Price::mean([price; 3]), Some(price));
        assert_eq!(Price::from_units(price.units()), Some(price));
        for rate in [Price::MIN, Price::MAX, price] {
            if let Ok(product) = price.times(rate) {
                round_trip(&product);
            }
        }
    }
}

pub(crate) fn decimal_seeds() -> Vec<Vec<u8>> {
    texts(&["102.00", "0.00000001", "9999999999.99999999", "0", "-1", "1e3", "00000000001", ".5"])
}

/// Prices as floats: the first eight bytes are one of 64 bits, the first four one of 32.
pub fn floats(data: &[u8]) {
    if let Some(bits) = data.first_chunk() {
        let value = f64::from_le_bytes(*bits);
        match Price::from_f64(value) {
            Ok(price) => {
                round_trip(&price);
                let off = (price.to_string().parse::<f64>().unwrap_or(f64::NAN) - value).abs();
                // Half of the last place, and what a float of 32 bits does not hold.
                assert!(off <= 5.1e-9 + value * 1e-7, "{value} was read as {price}");
            }
            Err(error) => check_message(&error),
        }
    }
    if let Some(bits) = data.first_chunk() {
        let value = f32::from_le_bytes(*bits);
        match fuzzing::legacy_threshold(value) {
            Ok(None) => assert!(value.to_bits() == (-1.0f32).to_bits()),
            Ok(Some(price)) => {
                round_trip(&price);
                // A client may send back what it was shown.
                assert_eq!(fuzzing::legacy_threshold(price.to_f32()), Ok(Some(price)), "{value}");
            }
            Err(error) => check_message(&error),
        }
    }
}

pub(crate) fn float_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [150.1, 0.3, 1.0 / 512.0, 1e-9, 0.0, -1.0, 1e10, 1e300]
        .map(|value: f64| value.to_le_bytes().to_vec())
        .into();
    seeds
        .extend([150.1, -1.0, 0.123_456_79, 1e-8, f32::NAN].map(|v: f32| v.to_le_bytes().to_vec()));
    seeds
}

/// Times, as text and as milliseconds.
pub fn timestamps(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check::<Timestamp>(text);
    }
    if let Some(bits) = data.first_chunk()
        && let Some(time) = Timestamp::from_millis(i64::from_le_bytes(*bits) >> 16)
    {
        round_trip(&time);
        assert!(time.plus(Duration::MAX) == Timestamp::MAX && time.since(time).is_zero());
    }
}

pub(crate) fn timestamp_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "2000-03-01T14:30:00Z",
        "2000-03-01t14:30:00.05+01:30",
        "1969-12-31T23:59:59.999z",
        "0000-01-01T00:00:00-23:59",
        "9999-12-31T23:59:59.999Z",
        "2000-02-30T00:00:00.0000Z",
    ])
}

/// Symbols, currencies and e-mail addresses.
pub fn names(data: &[u8]) {
    if let Ok(symbol) = Symbol::from_bytes(data) {
        assert_eq!(symbol.as_bytes(), data.to_ascii_uppercase());
        assert_eq!(Symbol::from_bytes(symbol.as_bytes()), Ok(symbol));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<Symbol>(text);
    check::<Currency>(text);
    if let Ok(email) = text.parse::<Email>() {
        round_trip(&email);
        assert_eq!(email.as_str(), text);
        // Both spellings are one account; a letter may be longer in lower case.
        if email.folded().len() <= 254 {
            let folded: Email = email.folded().parse().expect("a folded address is one");
            assert_eq!(folded, email);
        }
    }
}

pub(crate) fn name_seeds() -> Vec<Vec<u8>> {
    texts(&["M&M.NS", "^gspc", "BTC-USD", "GBp", "Ann@example.com", "ΑΣ@İ.org", "a b@c", "@"])
}

/// Alert ids: the bytes of a page token as well.
pub fn alert_ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<AlertId>(text);
}

pub(crate) fn alert_id_seeds() -> Vec<Vec<u8>> {
    texts(&["17-1-951921000000-above", "1-4294967295--1-below", "--", "1-1-1-beyond"])
}
