//! Instants in UTC with milliseconds, read and written as RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const EPOCH: jiff::civil::Date = jiff::civil::Date::constant(1970, 1, 1);

/// An instant in milliseconds since 1970-01-01T00:00:00Z, within the years 0000 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not of RFC 3339's form, or no date of the calendar.
    #[error("expected an RFC 3339 time such as 2000-03-01T14:30:00Z, found {0:?}")]
    Malformed(String),
    /// Finer than milliseconds.
    #[error("expected at most milliseconds (three fractional digits), found {0:?}")]
    TooFine(String),
}

impl Timestamp {
    /// The first instant that can be written: 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// The last instant that can be written: 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The instant of some milliseconds since 1970, if it can be written.
    pub const fn from_millis(millis: i64) -> Option<Self> {
        if millis >= Self::MIN.0 && millis <= Self::MAX.0 { Some(Self(millis)) } else { None }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The instant some time later, at most the last one.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let malformed = || TimestampError::Malformed(text.chars().take(64).collect());
        let bytes = text.as_bytes();
        // The shape is checked here, because general readers take much that RFC 3339 does not.
        let shape = b"dddd-dd-ddTdd:dd:dd";
        let fits = |shape: &[u8], bytes: &[u8]| {
            shape.len() == bytes.len()
                && shape.iter().zip(bytes).all(|(want, found)| match want {
                    b'd' => found.is_ascii_digit(),
                    b'T' => matches!(found, b'T' | b't'),
                    b'+' => matches!(found, b'+' | b'-'),
                    _ => want == found,
                })
        };
        if bytes.len() <= shape.len() || !fits(shape, &bytes[..shape.len()]) {
            return Err(malformed());
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'))
        };
        let mut rest = &bytes[shape.len()..];
        let mut millis = 0;
        if let Some(fraction) = rest.strip_prefix(b".") {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return Err(malformed());
            }
            if digits > 3 {
                return Err(TimestampError::TooFine(text.chars().take(64).collect()));
            }
            let from = shape.len() + 1;
            millis = number(from, from + digits) * [0, 100, 10, 1][digits];
            rest = &fraction[digits..];
        }
        let offset_minutes = match rest {
            b"Z" | b"z" => 0,
            _ if fits(b"+dd:dd", rest) => {
                let from = bytes.len() - 5;
                let (hours, minutes) = (number(from, from + 2), number(from + 3, from + 5));
                if hours > 23 || minutes > 59 {
                    return Err(malformed());
                }
                (hours * 60 + minutes) * if rest[0] == b'-' { -1 } else { 1 }
            }
            _ => return Err(malformed()),
        };
        let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
        if hour > 23 || minute > 59 || second > 59 {
            return Err(malformed());
        }
        let narrow = |value: i64| i8::try_from(value).unwrap_or(0);
        let year = i16::try_from(number(0, 4)).map_err(|_| malformed())?;
        let date = jiff::civil::Date::new(year, narrow(number(5, 7)), narrow(number(8, 10)))
            .map_err(|_| malformed())?;
        // Civil dates, because jiff's instants end a day before the year 9999 does.
        let days = EPOCH.until(date).map_err(|_| malformed())?.get_days();
        let seconds =
            i64::from(days) * 86_400 + hour * 3_600 + minute * 60 + second - offset_minutes * 60;
        Self::from_millis(seconds * 1_000 + millis).ok_or_else(malformed)
    }
}

impl fmt::Display for Timestamp {
    /// `2000-03-01T14:30:00Z`, with `.mmm` only if it is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.rem_euclid(1_000);
        let seconds = self.0.div_euclid(1_000);
        // Every value in range is a day of the calendar.
        let days = i32::try_from(seconds.div_euclid(86_400)).map_err(|_| fmt::Error)?;
        let date = EPOCH.checked_add(jiff::Span::new().days(days)).map_err(|_| fmt::Error)?;
        let second = seconds.rem_euclid(86_400);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            second / 3_600,
            second / 60 % 60,
            second % 60
        )?;
        if millis != 0 {
            write!(f, ".{millis:03}")?;
        }
        f.write_str("Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_and_printed_in_utc() {
        for (text, expected) in [
            ("2000-03-01T14:30:00Z", Ok("2000-03-01T14:30:00Z")),
            ("2000-03-01t14:30:00.000z", Ok("2000-03-01T14:30:00Z")),
            ("2000-03-01T14:30:00.5Z", Ok("2000-03-01T14:30:00.500Z")),
            ("2000-03-01T14:30:00.05+01:30", Ok("2000-03-01T13:00:00.050Z")),
            ("2000-02-29T00:00:00-23:59", Ok("2000-02-29T23:59:00Z")),
            ("1969-12-31T23:59:59.999Z", Ok("1969-12-31T23:59:59.999Z")),
            ("0000-01-01T00:00:00Z", Ok("0000-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59.999Z", Ok("9999-12-31T23:59:59.999Z")),
            ("9999-12-31T23:59:59-00:01", Err("RFC 3339")),
            ("2000-03-01T14:30:00.0000Z", Err("milliseconds")),
            ("2001-02-29T00:00:00Z", Err("RFC 3339")),
            ("2000-13-01T00:00:00Z", Err("RFC 3339")),
            ("2000-01-01T24:00:00Z", Err("RFC 3339")),
            ("2000-01-01T00:00:60Z", Err("RFC 3339")),
            ("2000-01-01 00:00:00Z", Err("RFC 3339")),
            ("2000-01-01T00:00:00", Err("RFC 3339")),
            ("2000-01-01T00:00:00.Z", Err("RFC 3339")),
            ("2000-01-01T00:00:00+0100", Err("RFC 3339")),
            ("2000-01-01T00:00:00+24:00", Err("RFC 3339")),
            ("+002000-01-01T00:00:00Z", Err("RFC 3339")),
            ("2000-01-01", Err("RFC 3339")),
            ("", Err("RFC 3339")),
        ] {
            match (text.parse::<Timestamp>(), expected) {
                (Ok(time), Ok(printed)) => assert_eq!(time.to_string(), printed, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{text:?}: {error}");
                }
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }
}
