//! What is wrong with the settings: every fault at once, each with its place and its name.

use std::fmt;

/// One fault of a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{file}: expected a readable file, found: {cause}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        cause: String,
    },
    /// The file is no TOML.
    #[error("{place}: expected TOML, found: {cause}")]
    Syntax {
        /// `FILE:LINE`.
        place: String,
        /// What the parser says.
        cause: String,
    },
    /// There is no such option.
    #[error("{place}: expected the name of {what}, found {found}; the nearest is {nearest}")]
    Unknown {
        /// `FILE:LINE`, the environment, or the flag.
        place: String,
        /// An option or a table.
        what: &'static str,
        /// The name as it was given.
        found: String,
        /// The closest valid name, in the same form.
        nearest: String,
    },
    /// The value is of another type, or against a rule.
    #[error("{place}: {key}: expected {expected}, found {found}")]
    Value {
        /// `FILE:LINE`, the environment, or the flag.
        place: String,
        /// The option's full name.
        key: String,
        /// What it takes.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The value does not fit the option, as the option itself says.
    #[error("{place}: {key}: {cause}")]
    Refused {
        /// Where the value comes from.
        place: String,
        /// The option's full name.
        key: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// All faults of the settings, at least one, in the order of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The most of a text that is shown, in characters.
const SHOWN_MAX: usize = 500;

/// A text as a part of a message: short, and without what would break its line. Any text can be a
/// name or a value in TOML and in the environment.
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(SHOWN_MAX) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}
