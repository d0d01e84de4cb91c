//! What went wrong in a conversation, and whose business it is.

use std::error::Error as _;
use std::io;

use rustls::CertificateError;

use crate::pipeline::notify::MailError;

/// Longer texts of servers are cut, in characters.
const TEXT_MAX: usize = 300;

/// Where in the conversation the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Up to and including the login: nothing of a mail was said yet.
    Connect(&'static str),
    /// MAIL FROM: the sender, which is the same for all mails.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, and the mail itself.
    Content,
}

/// Why a mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server said no; the conversation is in step and may go on.
    Refused {
        /// What it said no to.
        step: Step,
        /// The reply code.
        code: u16,
        /// The reply's text.
        text: String,
    },
    /// No answer that can be trusted: the connection is of no use any more.
    Broken(String),
    /// The same after the server had the recipient, or the mail itself: it may be this mail that
    /// silences it.
    Lost(String),
    /// The server lacks what this mail needs.
    Unsuited(String),
}

impl Failure {
    /// What the client library reports of a command at `step`.
    pub(super) fn of(step: Step, error: &lettre::transport::smtp::Error) -> Self {
        if let Some(code) = error.status() {
            let text = error.source().map(ToString::to_string).unwrap_or_default();
            return Self::Refused { step, code: code.into(), text };
        }
        let place = match step {
            Step::Connect(what) => what,
            Step::Sender | Step::Recipient => "the mail",
            Step::Content => "the mail, which may have been taken",
        };
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                return Self::Broken(format!("{} (at {place})", describe(io)));
            }
            source = cause.source();
        }
        // The library has no type for an answer that ends too early.
        let text = error.to_string();
        if text.contains("incomplete response") {
            return Self::Broken(format!("the server closed the connection (at {place})"));
        }
        Self::Broken(format!("{text} (at {place})"))
    }

    /// The same failure, of a server that had the recipient by then.
    pub(super) fn after_recipient(self) -> Self {
        match self {
            Self::Broken(text) => Self::Lost(text),
            other => other,
        }
    }

    /// Whether the same connection may carry another mail.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code != 421,
            Self::Broken(_) | Self::Lost(_) => false,
            Self::Unsuited(_) => true,
        }
    }

    /// What it means for the delivery. `secret` is kept out of the text, and so is the
    /// `recipient`, because the text goes to logs.
    pub(super) fn judged(self, secret: Option<&str>, recipient: &str) -> MailError {
        let clean = |text: &str| clean(&without(text, recipient), secret);
        let (step, code, text) = match self {
            Self::Broken(text) => return MailError::Unreachable(clean(&text)),
            Self::Lost(text) => return MailError::Transient(clean(&text)),
            Self::Unsuited(text) => return MailError::Permanent(clean(&text)),
            Self::Refused { step, code, text } => (step, code, clean(&text)),
        };
        match (code, step) {
            (421, _) => MailError::Unreachable(format!("the server is closing: 421 {text}")),
            (535, _) => MailError::Unreachable(format!(
                "the server refused the user or the password: 535 {text}"
            )),
            (530 | 534 | 538, _) => {
                MailError::Unreachable(format!("the server wants a login: {code} {text}"))
            }
            (_, Step::Connect(what)) => {
                MailError::Unreachable(format!("the server refused {what}: {code} {text}"))
            }
            // Every mail has this sender, so no delivery may die of it.
            (500.., Step::Sender) => MailError::Unreachable(format!(
                "the server refused the sender's address: {code} {text}"
            )),
            (500.., _) => MailError::Permanent(format!("{code} {text}")),
            (_, _) => MailError::Transient(format!("{code} {text}")),
        }
    }
}

/// An I/O error in words; TLS errors say what is wrong with the certificate.
pub(super) fn describe(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        None => match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => format!("the connection was lost: {error}"),
            _ => error.to_string(),
        },
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::UnknownIssuer => {
                "the server's certificate is from an unknown authority (see root_ca_file)".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the server's certificate is for another name: {reason}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the server's certificate has expired: {reason}")
            }
            _ => format!("the server's certificate is not valid: {reason}"),
        },
        Some(other) => format!("TLS failed: {other}"),
    }
}

/// A text that names no recipient, in whatever case the server repeats the address.
fn without(text: &str, recipient: &str) -> String {
    if recipient.is_empty() {
        return text.to_owned();
    }
    let (lower, address) = (text.to_ascii_lowercase(), recipient.to_ascii_lowercase());
    let (mut kept, mut from) = (String::new(), 0);
    for (at, _) in lower.match_indices(&address) {
        kept.push_str(&text[from..at]);
        kept.push_str("the recipient");
        from = at + address.len();
    }
    kept.push_str(&text[from..]);
    kept
}

/// Fit for a log line and a terminal.
fn clean(text: &str, secret: Option<&str>) -> String {
    let text = match secret {
        Some(secret) if !secret.is_empty() => text.replace(secret, "***"),
        _ => text.to_owned(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_somebodys_business() {
        let refused = |step, code| Failure::Refused { step, code, text: "no".to_owned() };
        let connect = Step::Connect("the login");
        for (failure, expected, keeps) in [
            (refused(Step::Recipient, 450), "refused for now: 450 no", true),
            (refused(Step::Recipient, 550), "server refused: 550 no", true),
            (refused(Step::Content, 452), "refused for now: 452 no", true),
            (refused(Step::Content, 554), "server refused: 554 no", true),
            (refused(Step::Sender, 451), "refused for now: 451 no", true),
            (refused(Step::Sender, 553), "refused the sender's address: 553 no", true),
            (refused(Step::Recipient, 530), "wants a login: 530 no", true),
            (refused(Step::Recipient, 421), "is closing: 421 no", false),
            (refused(connect, 535), "the user or the password: 535 no", true),
            (refused(connect, 454), "refused the login: 454 no", true),
            (Failure::Broken("gone".to_owned()), "could be reached: gone", false),
            (Failure::Lost("gone".to_owned()), "refused for now: gone", false),
            (Failure::Unsuited("no UTF-8".to_owned()), "server refused: no UTF-8", true),
        ] {
            assert_eq!(failure.keeps_connection(), keeps, "{failure:?}");
            let text = failure.judged(None, "ann@x.y").to_string();
            assert!(text.ends_with(expected), "{text}");
        }
    }

    #[test]
    fn texts_are_bounded_and_plain_and_hold_no_secret() {
        let text = format!("bad hunter2\r\n\u{1b}[31m{}", "x".repeat(1_000));
        let MailError::Unreachable(text) = Failure::Broken(text).judged(Some("hunter2"), "ann@x.y")
        else {
            panic!("expected Unreachable");
        };
        assert!(text.starts_with("bad ***   [31mxx"), "{text}");
        assert_eq!(text.chars().count(), TEXT_MAX);
    }

    #[test]
    fn texts_name_no_recipient() {
        for (text, expected) in [
            ("<Ann@X.y>: unknown; ann@x.y", "<the recipient>: unknown; the recipient"),
            ("é bob@x.y is not ann@x.y é", "é bob@x.y is not the recipient é"),
            ("no", "no"),
        ] {
            assert_eq!(without(text, "ann@x.y"), expected);
        }
    }
}
