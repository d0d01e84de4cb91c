//! Port: handing one mail to whatever delivers it.

use async_trait::async_trait;

use crate::model::{AlertId, Email};

/// One mail to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The alert that it tells; `None` for a test mail. Names the file of the file mailer.
    pub alert: Option<AlertId>,
    /// Whom it goes to.
    pub to: Email,
    /// The subject, one line.
    pub subject: String,
    /// The body as plain text.
    pub text: String,
    /// The body as HTML.
    pub html: String,
    /// The part of `Message-ID` before the `@`: the same whenever the same alert is sent.
    pub message_id: String,
}

/// How sending failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// The server refused it for now (4xx), or fell silent or away over it after it had the
    /// recipient: an attempt that counts. It may have been taken all the same.
    #[error("the mail server refused for now: {0}")]
    Transient(String),
    /// The server refused it for good (5xx): to the dead letters.
    #[error("the mail server refused: {0}")]
    Permanent(String),
    /// No server judged it (connection, TLS, AUTH, 421, silence before the recipient): the
    /// breaker's business.
    #[error("no mail server could be reached: {0}")]
    Unreachable(String),
}

/// Hands mails over.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Sends one mail and returns once it is taken: `Ok` means that whoever took it is
    /// responsible for it from here on. Bounded in time by the adapter. Several calls may run at
    /// once; an adapter bounds its own connections. Cancelling leaves the outcome unknown.
    async fn send(&self, mail: &Mail) -> Result<(), MailError>;
}
