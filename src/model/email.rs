//! E-mail addresses: compared without regard to case, kept as typed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// An address: one `@`, text on both sides, no blanks, at most 254 bytes.
#[derive(Clone)]
pub struct Email {
    typed: String,
    folded: String,
}

/// Why a text is no e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an e-mail address (one @, text on both sides, no blanks, at most 254 bytes), found {0:?}"
)]
pub struct EmailError(String);

impl Email {
    /// The address as it was typed.
    pub fn as_str(&self) -> &str {
        &self.typed
    }

    /// The form that is compared: lower case.
    pub fn folded(&self) -> &str {
        &self.folded
    }
}

impl FromStr for Email {
    type Err = EmailError;

    fn from_str(text: &str) -> Result<Self, EmailError> {
        let valid = text.len() <= 254
            && !text.chars().any(|c| c.is_whitespace() || c.is_control())
            && text.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && !domain.contains('@')
            });
        if !valid {
            return Err(EmailError(text.chars().take(300).collect()));
        }
        Ok(Self { typed: text.to_owned(), folded: text.to_lowercase() })
    }
}

impl PartialEq for Email {
    fn eq(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

impl Eq for Email {}

impl Hash for Email {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded.hash(state);
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.typed)
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_without_case_and_kept_as_typed() {
        let typed: Email = "B3@Example.com".parse().unwrap();
        assert_eq!(typed, "b3@example.COM".parse().unwrap());
        assert_eq!(typed.to_string(), "B3@Example.com");
        for bad in ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n", &"a@b".repeat(85)] {
            assert!(bad.parse::<Email>().is_err(), "{bad:?}");
        }
    }
}
