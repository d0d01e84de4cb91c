//! What the original's API says, and how it states fields, thresholds and times.

use std::fmt::Display;

use jiff::tz::TimeZone;

use crate::model::{Email, Price, Symbol, WatchSpec};
use crate::proto::usermanagement::{
    AverageResponse, DetailsResponse, StockValueResponse, UserResponse,
};
use crate::server::fault::Fault;
use crate::server::queries::Average;
use crate::server::store::{Quote, Refusal, Threshold};

/// What stands for no threshold, in both directions.
const NONE: f32 = -1.0;

/// An answer that can say no.
pub(super) trait Answer {
    /// No, and why: never empty.
    fn refused(message: String) -> Self;
}

impl Answer for UserResponse {
    fn refused(message: String) -> Self {
        Self { success: false, message }
    }
}

impl Answer for StockValueResponse {
    fn refused(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl Answer for AverageResponse {
    fn refused(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl Answer for DetailsResponse {
    fn refused(message: String) -> Self {
        // Printed unseen: nothing here may look like a threshold.
        Self { message, low_value: NONE, high_value: NONE, ..Self::default() }
    }
}

/// Yes.
pub(super) fn say(message: &str) -> UserResponse {
    UserResponse { success: true, message: message.to_owned() }
}

/// A refusal of a field.
pub(super) fn refusal(field: &str, error: &dyn Display) -> Refusal {
    Refusal::Invalid(format!("{field}: {error}"))
}

/// An address.
pub(super) fn read_email(text: &str) -> Result<Email, Refusal> {
    text.parse().map_err(|error| refusal("email", &error))
}

/// A symbol.
pub(super) fn read_symbol(field: &str, text: &str) -> Result<Symbol, Refusal> {
    text.parse().map_err(|error| refusal(field, &error))
}

/// A threshold: -1 for none, or the decimal that a float stands for.
pub(crate) fn read_threshold(field: &str, value: f32) -> Result<Threshold, Refusal> {
    if value.to_bits() == NONE.to_bits() {
        return Ok(None);
    }
    Price::from_f32(value)
        .map(Some)
        .map_err(|error| refusal(field, &format!("expected -1 for none, or else {error}")))
}

/// The newest price, with its time in a time zone.
pub(super) fn latest(quote: &Quote, zone: &TimeZone) -> Result<StockValueResponse, Fault> {
    let time = jiff::Timestamp::from_millisecond(quote.time.millis())
        .map_err(|error| Fault::internal(&error))?;
    let time = time.to_zoned(zone.clone());
    Ok(StockValueResponse {
        success: true,
        message: match quote.currency {
            Some(currency) => format!("the latest price of {} in {currency}", quote.symbol),
            None => format!("the latest price of {}", quote.symbol),
        },
        ticker: quote.symbol.to_string(),
        value: quote.price.to_f32(),
        timestamp: time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    })
}

/// A mean, of fewer values than asked for where there are not as many.
pub(super) fn average(symbol: Symbol, average: Average, asked: u32) -> AverageResponse {
    let Average { price, count } = average;
    AverageResponse {
        success: true,
        message: if count < asked {
            format!("the average of the {count} values that there are; {asked} were asked for")
        } else {
            format!("the average of the latest {count} values")
        },
        ticker: symbol.to_string(),
        average: price.to_f32(),
    }
}

/// A watch as the original shows it.
pub(super) fn details(spec: &WatchSpec) -> DetailsResponse {
    let threshold = |price: Threshold| price.map_or(NONE, Price::to_f32);
    DetailsResponse {
        success: true,
        ticker: spec.symbol().to_string(),
        low_value: threshold(spec.low()),
        high_value: threshold(spec.high()),
        message: format!("the watch on {}", spec.symbol()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_the_decimals_that_floats_stand_for() {
        for (value, expected) in [
            (-1.0, Ok(None)),
            (150.1, Ok(Some("150.1"))),
            (0.5, Ok(Some("0.5"))),
            (0.0, Err("found 0")),
            (-0.0, Err("found -0")),
            (-2.0, Err("found -2")),
            (f32::NAN, Err("found NaN")),
            (f32::INFINITY, Err("found inf")),
            (f32::NEG_INFINITY, Err("found -inf")),
            (1e10, Err("9999999999.99999999")),
        ] {
            match (read_threshold("low_value", value), expected) {
                (Ok(price), Ok(text)) => {
                    assert_eq!(price.map(|price| price.to_string()).as_deref(), text);
                }
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.starts_with("low_value: expected -1 for none"), "{error}");
                    assert!(error.contains(part), "{error}");
                }
                (found, _) => panic!("{value}: {found:?}"),
            }
        }
    }

    #[test]
    fn times_are_told_in_the_time_zone() {
        let zone = TimeZone::get("Europe/Rome").unwrap();
        let quote = |time: &str| Quote {
            symbol: "AAPL".parse().unwrap(),
            time: time.parse().unwrap(),
            price: "150.1".parse().unwrap(),
            currency: "USD".parse().ok(),
            market: None,
        };
        for (time, expected) in [
            ("2000-03-01T14:30:00.500Z", "2000-03-01 15:30:00"),
            ("2000-07-01T22:30:00Z", "2000-07-02 00:30:00"),
        ] {
            let answer = latest(&quote(time), &zone).unwrap();
            assert_eq!((answer.timestamp.as_str(), answer.value), (expected, 150.1));
        }
    }
}
