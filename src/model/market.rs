//! Whether the market of a symbol was open.

use std::fmt;
use std::str::FromStr;

/// The state of a symbol's market, as the source states it with a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarketState {
    /// Trading before the regular hours.
    Pre,
    /// The regular hours.
    Regular,
    /// Trading after the regular hours.
    Post,
    /// No trading.
    Closed,
}

/// Why a text is no state of a market.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the market to be pre, regular, post or closed, found {0:?}")]
pub struct MarketStateError(String);

impl MarketState {
    const ALL: [Self; 4] = [Self::Pre, Self::Regular, Self::Post, Self::Closed];

    /// The state as text, lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Regular => "regular",
            Self::Post => "post",
            Self::Closed => "closed",
        }
    }
}

impl FromStr for MarketState {
    type Err = MarketStateError;

    fn from_str(text: &str) -> Result<Self, MarketStateError> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| MarketStateError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for MarketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_its_word() {
        for state in MarketState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("REGULAR".parse::<MarketState>().is_err());
    }
}
