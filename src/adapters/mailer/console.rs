//! Mails on standard output, one readable block each.

use std::io::{Write, stdout};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::pipeline::notify::{Mail, MailError, Mailer};

/// Prints mails.
#[derive(Clone)]
pub struct ConsoleMailer {
    out: Arc<Mutex<dyn Write + Send>>,
}

impl ConsoleMailer {
    /// Prints to standard output.
    pub fn stdout() -> Self {
        Self::new(stdout())
    }

    /// Prints to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Arc::new(Mutex::new(out)) }
    }
}

#[async_trait]
impl Mailer for ConsoleMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let block = format!(
            "--- mail {} ---\nTo: {}\nSubject: {}\n\n{}\n",
            mail.message_id, mail.to, mail.subject, mail.text
        );
        let out = Arc::clone(&self.out);
        // A pipe whose reader has stopped blocks; that must not hold up an async thread.
        let write = move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(block.as_bytes()).and_then(|()| out.flush())
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(MailError::Unreachable(format!("cannot print it: {error}"))),
            Err(error) => Err(MailError::Unreachable(format!("printing it ended: {error}"))),
        }
    }
}
