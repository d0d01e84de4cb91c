//! The settings as TOML, each with where it comes from, and without secrets.

use std::fmt::Write as _;

use ::config::ValueKind;

use super::Loaded;
use crate::adapters::mailer::SmtpUrl;

/// What is shown instead of a secret.
const REDACTED: &str = "(redacted)";

impl Loaded {
    /// Every option in the order of the defaults: `key = value  # origin`.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for entry in &self.schema.options {
            let (section, name) = entry.path.rsplit_once('.').unwrap_or(("", &entry.path));
            if section != table {
                let end = if text.is_empty() { "" } else { "\n" };
                // Writing to a String does not fail.
                let _ = writeln!(text, "{end}[{section}]");
                table = section;
            }
            let Some(value) = self.values.get(&entry.path) else { continue };
            let shown = match &value.kind {
                ValueKind::String(text) if hides(entry.is_secret(), &entry.path, text) => {
                    format!("{REDACTED:?}")
                }
                kind => toml(kind),
            };
            let origin = value.origin().unwrap_or("default");
            let _ = writeln!(text, "{name} = {shown}  # {origin}");
        }
        text
    }
}

/// Whether a text is not shown at all. A mailer with a slip in it may be anything, a password
/// with an unencoded character above all.
fn hides(is_secret: bool, path: &str, text: &str) -> bool {
    let is_readable = matches!(text, "" | "console" | "files") || text.parse::<SmtpUrl>().is_ok();
    (is_secret && !text.is_empty()) || (path == "mail.mailer" && !is_readable)
}

fn toml(value: &ValueKind) -> String {
    match value {
        ValueKind::Boolean(on) => on.to_string(),
        ValueKind::I64(number) => number.to_string(),
        ValueKind::Float(number) => format!("{number:?}"),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| toml(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::String(text) => {
            // A JSON string is a basic string of TOML, but for DEL.
            let text = serde_json::Value::from(without_password(text)).to_string();
            text.replace('\u{7f}', "\\u007f")
        }
        // The schema has no other kinds.
        other => format!("{:?}", other.to_string()),
    }
}

/// A URL without the password that it may bear.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // By the last @, wherever a / is: a password may hold one.
    match rest.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:{REDACTED}@{host}"),
        None => text.to_owned(),
    }
}
