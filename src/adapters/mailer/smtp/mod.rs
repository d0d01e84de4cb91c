//! Mails over SMTP: own connections, reused and bounded, each judged reply told apart.

mod connection;
mod failure;
mod options;

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::adapters::tls::client_config;
use crate::model::Timestamp;
use crate::pipeline::clock::Clock;
use crate::pipeline::notify::{Mail, MailError, Mailer};

use super::message::{address, render};
use connection::{Connection, Server};
use failure::Failure;
pub use options::{SmtpOptions, SmtpUrl, SmtpUrlError, TlsPolicy};

/// Options with which no mail can be sent.
#[derive(Debug, thiserror::Error)]
pub enum SmtpOptionsError {
    /// `from` is no address.
    #[error("expected from = \"NAME <ADDRESS>\", found {found:?}: {reason}")]
    From {
        /// What was found.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `tls` and the URL's scheme contradict each other.
    #[error("expected tls = \"implicit\" or none with smtps://, found another")]
    Scheme,
    /// `helo` is no host name.
    #[error("expected helo to be a host name, found {0:?}")]
    Helo(String),
    /// The file of authorities is of no use.
    #[error("expected PEM certificates in root_ca_file {path}, found: {reason}")]
    RootCa {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The URL's host is no name for TLS, or the library refused the roots.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// An option that must be at least 1.
    #[error("expected {0} >= 1, found 0")]
    Zero(&'static str),
}

/// Sends mails through one server.
pub struct SmtpMailer {
    server: Server,
    from: Mailbox,
    secret: Option<String>,
    clock: Arc<dyn Clock>,
    total_timeout: Duration,
    idle: Duration,
    mails_max: u32,
    permits: Arc<Semaphore>,
    /// Connections without a mail, the last used at the end, with the time of their last use.
    spare: Mutex<Vec<(Connection, Timestamp)>>,
}

impl SmtpMailer {
    /// A mailer that connects when the first mail comes. Reads the file of authorities.
    pub fn new(options: SmtpOptions, clock: Arc<dyn Clock>) -> Result<Self, SmtpOptionsError> {
        for (name, value) in [
            ("connections_max", u64::from(options.connections_max)),
            ("command_timeout_ms", options.command_timeout_ms),
            ("total_timeout_ms", options.total_timeout_ms),
            ("messages_per_connection_max", u64::from(options.messages_per_connection_max)),
        ] {
            if value == 0 {
                return Err(SmtpOptionsError::Zero(name));
            }
        }
        let policy = match (options.tls, options.url.tls) {
            (None, false) => TlsPolicy::Opportunistic,
            (None | Some(TlsPolicy::Implicit), true) => TlsPolicy::Implicit,
            (Some(policy), false) => policy,
            (Some(_), true) => return Err(SmtpOptionsError::Scheme),
        };
        let (tls, starttls) = tls(&options)?;
        let secret = options.url.credentials.as_ref().map(|(_, password)| password.clone());
        let permits = usize::try_from(options.connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self {
            from: from(&options)?,
            server: Server {
                policy,
                tls: Arc::new(tls),
                starttls,
                helo: helo(&options)?,
                auth_plaintext: options.auth_plaintext,
                timeout: Duration::from_millis(options.command_timeout_ms),
                credentials: options
                    .url
                    .credentials
                    .map(|(user, password)| Credentials::new(user, password)),
                host: options.url.host,
                port: options.url.port,
            },
            secret,
            clock,
            total_timeout: Duration::from_millis(options.total_timeout_ms),
            idle: Duration::from_secs(options.idle_s),
            mails_max: options.messages_per_connection_max,
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            spare: Mutex::default(),
        })
    }

    async fn hand_over(&self, to: &Address, message: &[u8]) -> Result<(), Failure> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Failure::Broken("the mailer is closed".to_owned()))?;
        let (mut connection, begun) = self.begin(to).await?;
        // From here on a cancelled or failed mail takes its connection with it: what is still to
        // be read from that could pass for the answer to the next mail.
        let result = match begun {
            Ok(()) => connection.finish(to, message).await,
            Err(failure) => Err(failure),
        };
        if result.as_ref().err().is_none_or(Failure::keeps_connection) {
            self.keep(connection, permit);
        }
        result
    }

    /// A connection, and whether it has begun the mail.
    async fn begin(&self, to: &Address) -> Result<(Connection, Result<(), Failure>), Failure> {
        if let Some(mut connection) = self.spare() {
            // MAIL FROM tests an old connection as well as NOOP would, and nothing is lost if it
            // fails: a new one tells whether the server means it.
            if connection.begin(&self.from.email, to).await.is_ok() {
                return Ok((connection, Ok(())));
            }
        }
        let mut connection = Connection::open(&self.server).await?;
        let begun = connection.begin(&self.from.email, to).await;
        Ok((connection, begun))
    }

    fn spare(&self) -> Option<Connection> {
        let now = self.clock.now();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.retain(|(_, used)| now.since(*used) < self.idle);
        spare.pop().map(|(connection, _)| connection)
    }

    fn keep(&self, connection: Connection, permit: OwnedSemaphorePermit) {
        if connection.mails < self.mails_max {
            let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.push((connection, self.clock.now()));
        } else {
            // The mail need not wait for the goodbye; the permit does, so all stays bounded.
            tokio::spawn(async move {
                connection.quit().await;
                drop(permit);
            });
        }
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let to = address(&mail.to)
            .ok_or_else(|| MailError::Permanent(format!("{} is no address for SMTP", mail.to)))?;
        let message = render(mail, &self.from, self.clock.now()).map_err(MailError::Permanent)?;
        let sent = tokio::time::timeout(self.total_timeout, self.hand_over(&to, &message)).await;
        let bound = self.total_timeout.as_millis();
        sent.unwrap_or_else(|_| Err(Failure::Broken(format!("not sent within {bound} ms in all"))))
            .map_err(|failure| failure.judged(self.secret.as_deref(), to.as_ref()))
    }
}

fn from(options: &SmtpOptions) -> Result<Mailbox, SmtpOptionsError> {
    let user = options.url.credentials.as_ref().map(|(user, _)| user.as_str());
    let text = match &options.from {
        Some(text) => text.clone(),
        None => match user.filter(|user| user.parse::<Address>().is_ok()) {
            Some(user) => format!("Tripline <{user}>"),
            None => "Tripline <tripline@localhost>".to_owned(),
        },
    };
    text.parse().map_err(|error: lettre::address::AddressError| SmtpOptionsError::From {
        found: text.clone(),
        reason: error.to_string(),
    })
}

fn helo(options: &SmtpOptions) -> Result<ClientId, SmtpOptionsError> {
    match &options.helo {
        None => Ok(ClientId::default()),
        Some(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(ClientId::Domain(name.clone()))
        }
        Some(name) => Err(SmtpOptionsError::Helo(name.clone())),
    }
}

/// The same trust twice: for TLS from the first byte, and as the library wants it for STARTTLS.
fn tls(options: &SmtpOptions) -> Result<(rustls::ClientConfig, TlsParameters), SmtpOptionsError> {
    let failed = |error: &dyn std::fmt::Display| SmtpOptionsError::Tls(error.to_string());
    let mut starttls = TlsParameters::builder(options.url.host.clone());
    let path = options.root_ca_file.as_deref();
    let refused = |reason: String| SmtpOptionsError::RootCa {
        path: path.map(|path| path.display().to_string()).unwrap_or_default(),
        reason,
    };
    let tls = client_config(path).map_err(refused)?;
    if let Some(path) = path {
        let pem = fs::read(path).map_err(|error| refused(error.to_string()))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|error| refused(error.to_string()))?;
        starttls = starttls.add_root_certificate(certificate);
    }
    Ok((tls, starttls.build_rustls().map_err(|error| failed(&error))?))
}
