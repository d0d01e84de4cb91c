//! Exact decimals with at most 10 integer and 8 fractional digits, held as a count of 10⁻⁸.

use std::fmt;
use std::str::FromStr;

const FRACTION_DIGITS: usize = 8;
const INTEGER_DIGITS: usize = 10;
const SCALE: i64 = 100_000_000;
const UNITS_MAX: i64 = 999_999_999_999_999_999;
/// Characters of a text that an error repeats: answers are recorded with what they say.
const FOUND_CHARS_MAX: usize = 64;

/// A decimal of zero or more: a price distance, for example.
///
/// The value is `units × 10⁻⁸`, and `units` is within `0..=10¹⁸ − 1`, so sums and differences
/// of two of them never overflow an `i64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i64);

/// A decimal greater than zero: a price, a threshold or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

/// Why a text or a number is no decimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The text, whose beginning is kept, is not `digits[.digits]`.
    #[error("expected digits[.digits], such as 101.5, found {0:?}")]
    Malformed(String),
    /// More digits than are kept; the text's beginning.
    #[error("expected at most 10 integer and 8 fractional digits, found {0:?}")]
    TooManyDigits(String),
    /// Zero where more is needed; what was found as it was written.
    #[error("expected a number greater than 0, found {0}")]
    NotPositive(String),
    /// A float that stands for no decimal in range.
    #[error("expected a number from 0.00000001 to 9999999999.99999999, found {0}")]
    OutOfRange(String),
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The decimal of `units × 10⁻⁸`, if it is in range.
    pub const fn from_units(units: i64) -> Option<Self> {
        if units >= 0 && units <= UNITS_MAX { Some(Self(units)) } else { None }
    }

    /// The count of 10⁻⁸ that this decimal is.
    pub const fn units(self) -> i64 {
        self.0
    }
}

impl Price {
    /// The smallest price.
    pub const MIN: Self = Self(1);
    /// The largest price.
    pub const MAX: Self = Self(UNITS_MAX);

    /// The price of `units × 10⁻⁸`, if it is in range.
    pub const fn from_units(units: i64) -> Option<Self> {
        if units > 0 && units <= UNITS_MAX { Some(Self(units)) } else { None }
    }

    /// The count of 10⁻⁸ that this price is.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// The price that a 32-bit float stands for: its shortest decimal, rounded half-even to
    /// 8 places. 150.1 sent as a float is 150.1, not 150.10000610351562.
    pub fn from_f32(value: f32) -> Result<Self, DecimalError> {
        if !value.is_finite() || value <= 0.0 {
            return Err(DecimalError::NotPositive(value.to_string()));
        }
        round_text(&value.to_string())
    }

    /// The price that a 64-bit float stands for. A float that was widened from 32 bits means
    /// the decimal of those 32 bits.
    pub fn from_f64(value: f64) -> Result<Self, DecimalError> {
        #[expect(clippy::cast_possible_truncation, reason = "the loss is what is tested for")]
        let narrow = value as f32;
        if f64::from(narrow) == value {
            return Self::from_f32(narrow);
        }
        if !value.is_finite() || value <= 0.0 {
            return Err(DecimalError::NotPositive(value.to_string()));
        }
        round_text(&value.to_string())
    }

    /// The mean of some prices, rounded half-even to 8 places; `None` of no prices.
    pub fn mean(prices: impl IntoIterator<Item = Self>) -> Option<Self> {
        let (sum, count) = prices
            .into_iter()
            .fold((0i128, 0i128), |(sum, count), price| (sum + i128::from(price.0), count + 1));
        if count == 0 {
            return None;
        }
        let (quotient, twice_rest) = (sum / count, sum % count * 2);
        let up = twice_rest > count || (twice_rest == count && quotient % 2 == 1);
        i64::try_from(quotient + i128::from(up)).ok().and_then(Self::from_units)
    }

    /// The nearest 32-bit float, for the original's API.
    pub fn to_f32(self) -> f32 {
        // The text is a decimal by construction, which always parses.
        self.to_string().parse().unwrap_or(f32::NAN)
    }

    /// This price times a fixed rate, rounded half-even to 8 places.
    pub fn times(self, rate: Self) -> Result<Self, DecimalError> {
        let product = i128::from(self.0) * i128::from(rate.0);
        let (quotient, twice_rest) = (product / i128::from(SCALE), product % i128::from(SCALE) * 2);
        let up = twice_rest > i128::from(SCALE)
            || (twice_rest == i128::from(SCALE) && quotient % 2 == 1);
        i64::try_from(quotient + i128::from(up))
            .ok()
            .and_then(Self::from_units)
            .ok_or_else(|| DecimalError::OutOfRange(format!("{self} × {rate}")))
    }
}

impl From<Price> for Decimal {
    fn from(price: Price) -> Self {
        Self(price.0)
    }
}

/// Rounds decimal text half-even to 8 places.
fn round_text(text: &str) -> Result<Price, DecimalError> {
    let out_of_range = || DecimalError::OutOfRange(text.to_owned());
    let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
    let integer: i64 = integer.parse().map_err(|_| out_of_range())?;
    let digit = |index: usize| i64::from(fraction.as_bytes().get(index).map_or(0, |b| b - b'0'));
    let kept = (0..FRACTION_DIGITS).fold(0, |value, index| value * 10 + digit(index));
    let units = integer
        .checked_mul(SCALE)
        .and_then(|units| units.checked_add(kept))
        .ok_or_else(out_of_range)?;
    let rest = fraction.get(FRACTION_DIGITS..).unwrap_or("").trim_end_matches('0');
    let up = match rest.as_bytes().first() {
        Some(b'5') if rest.len() == 1 => units % 2 == 1,
        Some(first) => *first >= b'5',
        None => false,
    };
    let units = units.checked_add(i64::from(up)).ok_or_else(out_of_range)?;
    if units == 0 {
        return Err(DecimalError::NotPositive(format!("{text}, which rounds to 0")));
    }
    Price::from_units(units).ok_or_else(out_of_range)
}

fn parse_units(text: &[u8]) -> Option<Result<i64, ()>> {
    let dot = text.iter().position(|byte| *byte == b'.');
    let (integer, fraction) = match dot {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    if integer.is_empty()
        || (dot.is_some() && fraction.is_empty())
        || !integer.iter().chain(fraction).all(u8::is_ascii_digit)
    {
        return None;
    }
    if integer.len() > INTEGER_DIGITS || fraction.len() > FRACTION_DIGITS {
        return Some(Err(()));
    }
    let mut units = 0i64;
    for digit in integer.iter().chain(fraction) {
        units = units * 10 + i64::from(digit - b'0');
    }
    for _ in fraction.len()..FRACTION_DIGITS {
        units *= 10;
    }
    Some(Ok(units))
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(FOUND_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    /// Reads `digits[.digits]`; digits are counted as written.
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        match parse_units(text.as_bytes()) {
            Some(Ok(units)) => Ok(Self(units)),
            Some(Err(())) => Err(DecimalError::TooManyDigits(beginning(text))),
            None => Err(DecimalError::Malformed(beginning(text))),
        }
    }
}

impl FromStr for Price {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let units = text.parse::<Decimal>()?.0;
        Self::from_units(units).ok_or_else(|| DecimalError::NotPositive(text.to_owned()))
    }
}

impl fmt::Display for Decimal {
    /// No exponent, no trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (integer, fraction) = (self.0 / SCALE, self.0 % SCALE);
        if fraction == 0 {
            return f.pad(&integer.to_string());
        }
        let text = format!("{integer}.{fraction:08}");
        f.pad(text.trim_end_matches('0'))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_and_never_rounded() {
        for (text, expected) in [
            ("102.00", Ok("102")),
            ("0.00000001", Ok("0.00000001")),
            ("9999999999.99999999", Ok("9999999999.99999999")),
            ("0000000001.5", Ok("1.5")),
            ("00000000001", Err("at most 10 integer")),
            ("1.000000000", Err("at most 10 integer and 8")),
            ("0.000000001", Err("8 fractional digits")),
            ("0", Err("greater than 0")),
            ("0.00", Err("greater than 0")),
            ("", Err("digits[.digits]")),
            (".5", Err("digits[.digits]")),
            ("5.", Err("digits[.digits]")),
            ("+5", Err("digits[.digits]")),
            ("-5", Err("digits[.digits]")),
            ("1e3", Err("digits[.digits]")),
            (" 1", Err("digits[.digits]")),
            ("1,5", Err("digits[.digits]")),
            ("1.2.3", Err("digits[.digits]")),
            ("١", Err("digits[.digits]")),
        ] {
            match (text.parse::<Price>(), expected) {
                (Ok(price), Ok(printed)) => assert_eq!(price.to_string(), printed),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text:?}: {error}");
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_error_repeats_no_more_than_the_beginning() {
        for (text, expected) in [
            ("1".repeat(64), "1".repeat(64)),
            ("1".repeat(65), format!("{}…", "1".repeat(64))),
            ("x".repeat(1 << 20), format!("{}…", "x".repeat(64))),
            ("é".repeat(65), format!("{}…", "é".repeat(64))),
        ] {
            match text.parse::<Decimal>() {
                Err(DecimalError::Malformed(found) | DecimalError::TooManyDigits(found)) => {
                    assert_eq!(found, expected);
                }
                found => panic!("{found:?}"),
            }
        }
    }

    #[test]
    fn floats_mean_the_decimal_they_stand_for() {
        for (value, expected) in [
            (f64::from(150.1f32), Ok("150.1")),
            (150.1, Ok("150.1")),
            (150.100_006_103_515_62, Ok("150.1")),
            (0.1 + 0.2, Ok("0.3")),
            (1.0 / 512.0, Ok("0.00195312")),
            (3.0 / 512.0, Ok("0.00585938")),
            (1e-9, Err("rounds to 0")),
            (0.0, Err("greater than 0")),
            (-1.0, Err("greater than 0")),
            (f64::NAN, Err("greater than 0")),
            (f64::INFINITY, Err("greater than 0")),
            (1e10, Err("to 9999999999.99999999")),
            (1e300, Err("to 9999999999.99999999")),
        ] {
            match (Price::from_f64(value), expected) {
                (Ok(price), Ok(printed)) => assert_eq!(price.to_string(), printed, "{value}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{value}: {error}");
                }
                (found, _) => panic!("{value}: {found:?}"),
            }
        }
    }

    #[test]
    fn means_and_products_round_half_even() {
        let prices = |units: &[i64]| -> Vec<Price> {
            units.iter().filter_map(|units| Price::from_units(*units)).collect()
        };
        assert_eq!(Price::mean(prices(&[1, 2])), Price::from_units(2));
        assert_eq!(Price::mean(prices(&[2, 3])), Price::from_units(2));
        assert_eq!(Price::mean(prices(&[1, 1, 2])), Price::from_units(1));
        assert_eq!(Price::mean(Vec::new()), None);
        assert_eq!(Price::mean([Price::MAX; 200]), Some(Price::MAX));
        let rate: Price = "0.9".parse().unwrap();
        assert_eq!("101.5".parse::<Price>().unwrap().times(rate).unwrap().to_string(), "91.35");
        assert!(Price::MAX.times("2".parse().unwrap()).is_err());
    }
}
