//! Where the mail server is and how to talk to it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// `smtp://USER:PASSWORD@HOST:PORT`, or `smtps://` for TLS from the first byte. User and
/// password are percent-encoded and may be missing; the port is 587, or 465 for `smtps`.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    /// Whether the scheme is `smtps`.
    pub tls: bool,
    /// The host name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

/// Why a text is no such URL. It never holds the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected smtp://USER:PASSWORD@HOST:PORT or smtps://…, found {0}")]
pub struct SmtpUrlError(&'static str);

impl FromStr for SmtpUrl {
    type Err = SmtpUrlError;

    fn from_str(text: &str) -> Result<Self, SmtpUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(SmtpUrlError("no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(SmtpUrlError("another scheme")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let credentials = match user {
            None => None,
            Some(user) => {
                let (user, password) =
                    user.split_once(':').ok_or(SmtpUrlError("a user without a password"))?;
                Some((decode(user)?, decode(password)?))
            }
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(SmtpUrlError("no closing ]"))?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
            }
            None => authority.split_once(':').map_or((authority, Some("")), |(h, p)| (h, Some(p))),
        };
        let port = match port {
            Some("") => Some(if tls { 465 } else { 587 }),
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => None,
        };
        let port = port.ok_or(SmtpUrlError("a port that is none of 1 to 65535"))?;
        if host.is_empty() || !host.bytes().all(is_host_byte) {
            return Err(SmtpUrlError("no valid host (is an @, / or : of the password encoded?)"));
        }
        Ok(Self { tls, host: host.to_owned(), port, credentials })
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':')
}

fn decode(text: &str) -> Result<String, SmtpUrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = digit().zip(digit()).ok_or(SmtpUrlError("% without two digits"))?;
            bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| SmtpUrlError("a user that is not UTF-8"))?;
    // A NUL would end the user's name in AUTH PLAIN.
    if text.chars().any(char::is_control) {
        return Err(SmtpUrlError("a control character in the user or password"));
    }
    Ok(text)
}

impl fmt::Display for SmtpUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "smtps://" } else { "smtp://" })?;
        if let Some((user, _)) = &self.credentials {
            write!(f, "{}:***@", user.escape_debug())?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When the conversation is encrypted. Certificates are always verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// Never.
    None,
    /// By STARTTLS if the server offers it. An attacker on the way can hide the offer.
    #[default]
    Opportunistic,
    /// By STARTTLS, or nothing is sent.
    Required,
    /// From the first byte; what `smtps://` means.
    Implicit,
}

/// How to reach the mail server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpOptions {
    /// The server. In the settings it is what names the mailer.
    #[serde(skip)]
    pub url: SmtpUrl,
    /// Whom mails are from, such as `Tripline <alerts@example.com>`; by default the URL's user if
    /// that is an address, else `tripline@localhost`. Its domain is that of every Message-ID.
    pub from: Option<String>,
    /// When to encrypt; by default `implicit` for `smtps://` and `opportunistic` for `smtp://`.
    pub tls: Option<TlsPolicy>,
    /// Whether the password may go over an unencrypted connection to another host. To a loopback
    /// address it always may.
    pub auth_plaintext: bool,
    /// A PEM file of certificate authorities to trust besides the public ones.
    pub root_ca_file: Option<PathBuf>,
    /// The name given in EHLO; by default the host's.
    pub helo: Option<String>,
    /// Connections at once, at most.
    pub connections_max: u32,
    /// How long each command may take, connecting included, in milliseconds.
    pub command_timeout_ms: u64,
    /// How long a mail may take in all, waiting for a connection included, in milliseconds.
    pub total_timeout_ms: u64,
    /// How long an unused connection is kept for the next mail, in seconds.
    pub idle_s: u64,
    /// Mails over one connection, at most.
    pub messages_per_connection_max: u32,
}

impl Default for SmtpOptions {
    fn default() -> Self {
        let url = SmtpUrl { tls: false, host: "localhost".into(), port: 587, credentials: None };
        Self::new(url)
    }
}

impl SmtpOptions {
    /// The defaults, for a server.
    pub fn new(url: SmtpUrl) -> Self {
        Self {
            url,
            from: None,
            tls: None,
            auth_plaintext: false,
            root_ca_file: None,
            helo: None,
            connections_max: 10,
            command_timeout_ms: 10_000,
            total_timeout_ms: 30_000,
            idle_s: 30,
            messages_per_connection_max: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed_without_the_password() {
        for (text, printed, credentials) in [
            ("smtp://h", "smtp://h:587", None),
            ("smtps://h/", "smtps://h:465", None),
            ("SMTP://u:p@h:25", "smtp://u:***@h:25", Some(("u", "p"))),
            ("smtp://a@b.c:p@h:25", "smtp://a@b.c:***@h:25", Some(("a@b.c", "p"))),
            ("smtp://a%40b:p%3a%2F:x%C3%BC@[::1]:2", "smtp://a@b:***@[::1]:2", {
                Some(("a@b", "p:/:xü"))
            }),
        ] {
            let url: SmtpUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), printed);
            assert!(!format!("{:?}", SmtpOptions::new(url.clone())).contains("xü"));
            let found = url.credentials.as_ref().map(|(user, word)| (user.as_str(), word.as_str()));
            assert_eq!(found, credentials);
        }
        for (bad, part) in [
            ("h:25", "no scheme"),
            ("http://h", "another scheme"),
            ("smtp://", "host"),
            ("smtp://secret@h", "without a password"),
            ("smtp://u:secret/x:y", "port"),
            ("smtp://u:secret@h:0", "port"),
            ("smtp://u:secret@h:x", "port"),
            ("smtp://u:secret%0@h", "%"),
            ("smtp://u:secret%00@h", "control"),
            ("smtp://u:secret@[::1", "]"),
            ("smtp://u:secret@h i", "host"),
        ] {
            let error = bad.parse::<SmtpUrl>().unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{bad}: {error}");
        }
    }

    #[test]
    fn options_are_read_with_defaults_and_unknown_ones_refused() {
        let text = r#"{"tls":"required","idle_s":5}"#;
        let options: SmtpOptions = serde_json::from_str(text).unwrap();
        let expected = SmtpOptions::default();
        assert_eq!(options, SmtpOptions { tls: Some(TlsPolicy::Required), idle_s: 5, ..expected });
        assert!(serde_json::from_str::<SmtpOptions>(r#"{"host":"h"}"#).is_err());
    }
}
