//! The record that a watch's condition is to be told to its user.

use std::fmt;
use std::str::FromStr;

use super::{Condition, Price, Symbol, Timestamp, UserId, Version, WatchId};

/// What makes an alert the same alert: its watch, the watch's version, its tick's time and
/// its condition. Written `WATCH-VERSION-MILLIS-above|below`, with the time in milliseconds
/// since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId {
    /// The watch that tells.
    pub watch: WatchId,
    /// The watch's version when the alert was made.
    pub version: Version,
    /// The time of the tick that made it.
    pub time: Timestamp,
    /// What holds.
    pub condition: Condition,
}

/// An alert, with ids in place of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its identity.
    pub id: AlertId,
    /// Whom it is for.
    pub user: UserId,
    /// What is priced.
    pub symbol: Symbol,
    /// The price that met the condition.
    pub price: Price,
    /// The threshold that was crossed.
    pub threshold: Price,
}

/// A text that is no alert id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an alert id such as 17-1-951921000000-above, found {0:?}")]
pub struct ParseAlertIdError(String);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.watch, self.version, self.time.millis(), self.condition)
    }
}

impl FromStr for AlertId {
    type Err = ParseAlertIdError;

    fn from_str(text: &str) -> Result<Self, ParseAlertIdError> {
        let parse = || {
            let (watch, rest) = text.split_once('-')?;
            let (version, rest) = rest.split_once('-')?;
            // The time itself may begin with a minus.
            let (time, condition) = rest.rsplit_once('-')?;
            Some(Self {
                watch: WatchId(watch.parse().ok()?),
                version: Version(version.parse().ok()?),
                time: Timestamp::from_millis(time.parse().ok()?)?,
                condition: condition.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseAlertIdError(text.chars().take(100).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_a_round_trip() {
        for text in ["17-1-951921000000-above", "1-4294967295--1-below"] {
            assert_eq!(text.parse::<AlertId>().unwrap().to_string(), text);
        }
        for bad in ["", "1-1-1", "1-1-x-above", "1-1-1-beyond", "-1-1-1-above"] {
            assert!(bad.parse::<AlertId>().is_err(), "{bad:?}");
        }
    }
}
