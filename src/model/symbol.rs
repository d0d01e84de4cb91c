//! Symbols and currencies: short codes, kept inline so that copying one costs nothing.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

const LEN_MAX: usize = 32;

/// What is priced: 1 to 32 of `A-Z 0-9 . - ^ = : _ / &`, upper-cased on the way in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    bytes: [u8; LEN_MAX],
    len: u8,
}

/// Why a text is no symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 32 of A-Z 0-9 . - ^ = : _ / &, such as AAPL or BTC-USD, found {0:?}")]
pub struct SymbolError(String);

impl Symbol {
    /// The symbol that some bytes name.
    pub fn from_bytes(text: &[u8]) -> Result<Self, SymbolError> {
        let error = || SymbolError(String::from_utf8_lossy(text).chars().take(64).collect());
        if text.is_empty() || text.len() > LEN_MAX {
            return Err(error());
        }
        let mut bytes = [0; LEN_MAX];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = match from.to_ascii_uppercase() {
                byte @ (b'A'..=b'Z' | b'0'..=b'9') => byte,
                byte @ (b'.' | b'-' | b'^' | b'=' | b':' | b'_' | b'/' | b'&') => byte,
                _ => return Err(error()),
            };
        }
        // The length was checked to be at most 32 above.
        Ok(Self { bytes, len: u8::try_from(text.len()).map_err(|_| error())? })
    }

    /// The symbol as text, upper case.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The symbol as ASCII bytes, upper case: the key of its records.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// As the hash of its bytes, so that a map by symbol is also one by the bytes of a key.
impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Symbol {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The code of the money that a price is in: 3 to 8 ASCII letters, in the case that the
/// source states, because GBp (pence) is not GBP (pounds).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 8]);

/// Why a text is no currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a currency of 3 to 8 ASCII letters, such as USD or GBp, found {0:?}")]
pub struct CurrencyError(String);

impl Currency {
    /// The currency that some bytes name.
    pub fn from_bytes(text: &[u8]) -> Result<Self, CurrencyError> {
        let mut bytes = [0; 8];
        let mut valid = (3..=bytes.len()).contains(&text.len());
        for (to, from) in bytes.iter_mut().zip(text) {
            valid &= from.is_ascii_alphabetic();
            *to = *from;
        }
        let error = || CurrencyError(String::from_utf8_lossy(text).chars().take(64).collect());
        if valid { Ok(Self(bytes)) } else { Err(error()) }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_upper_cased_and_bounded() {
        assert_eq!("m&m.ns".parse::<Symbol>().unwrap().as_str(), "M&M.NS");
        assert_eq!("^GSPC".parse::<Symbol>().unwrap().as_str(), "^GSPC");
        assert!("A".repeat(32).parse::<Symbol>().is_ok());
        let names = std::collections::HashSet::from(["M&M".parse::<Symbol>().unwrap()]);
        assert!(names.contains(&b"M&M"[..]) && !names.contains(&b"M&M\0"[..]));
        for bad in ["", " AAPL", "AAPL ", "A B", "Ä", "A,B", &"A".repeat(33)] {
            assert!(bad.parse::<Symbol>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn currencies_keep_their_case() {
        assert_ne!("GBp".parse::<Currency>().unwrap(), "GBP".parse::<Currency>().unwrap());
        assert_eq!("GBp".parse::<Currency>().unwrap().to_string(), "GBp");
        for bad in ["", "US", "USD1", "ABCDEFGHI"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad:?}");
        }
    }
}
