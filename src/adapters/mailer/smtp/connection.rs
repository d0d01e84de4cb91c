//! One connection to the mail server: opening it, and one mail over it.
//!
//! Commands are sent one by one and not through the library's `send`, because that takes any
//! positive reply for success and gives up the connection at every refusal.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure::{Failure, Step, describe};
use super::options::TlsPolicy;
use super::starttls::Guarded;

/// What it takes to open a connection.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) policy: TlsPolicy,
    /// For TLS from the first byte.
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// For STARTTLS.
    pub(super) starttls: TlsParameters,
    pub(super) credentials: Option<Credentials>,
    pub(super) auth_plaintext: bool,
    pub(super) helo: ClientId,
    /// The bound of each command.
    pub(super) timeout: Duration,
}

/// An open conversation.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    timeout: Duration,
    /// Whether a refused mail is to be forgotten by the server before the next one.
    refused: bool,
    /// Mails begun.
    pub(super) mails: u32,
}

impl Connection {
    pub(super) async fn open(server: &Server) -> Result<Self, Failure> {
        let Server { host, port, timeout, .. } = server;
        let connect = TcpStream::connect((host.as_str(), *port));
        let stream = within(*timeout, "connecting", connect)
            .await?
            .and_then(|stream| {
                // Each command is a small write that waits for its answer.
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .map_err(|error| {
                Failure::Broken(format!("cannot connect to {host} port {port}: {error}"))
            })?;
        let loopback = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let mut encrypted = server.policy == TlsPolicy::Implicit;
        let stream: Box<dyn AsyncTokioStream> = if encrypted {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| Failure::Broken(format!("{host} is no name for TLS")))?;
            let connect = TlsConnector::from(Arc::clone(&server.tls)).connect(name, stream);
            let stream = within(*timeout, "the TLS handshake", connect).await?;
            Box::new(TlsStream(stream.map_err(|error| Failure::Broken(describe(&error)))?))
        } else {
            Box::new(Guarded::new(stream))
        };
        let greet = AsyncSmtpConnection::connect_with_transport(stream, &server.helo);
        let mut smtp = step(*timeout, Step::Connect("the greeting"), greet).await?;
        if matches!(server.policy, TlsPolicy::Opportunistic | TlsPolicy::Required) {
            if smtp.can_starttls() {
                let upgrade = smtp.starttls(server.starttls.clone(), &server.helo);
                step(*timeout, Step::Connect("STARTTLS"), upgrade).await?;
                encrypted = true;
            } else if server.policy == TlsPolicy::Required {
                return Err(Failure::Broken(
                    "the server does not offer STARTTLS, which is required".to_owned(),
                ));
            }
        }
        if let Some(credentials) = &server.credentials {
            if !(encrypted || loopback || server.auth_plaintext) {
                return Err(Failure::Broken(
                    "the password would go out unencrypted, as the server offers no TLS \
                     (see tls and auth_plaintext)"
                        .to_owned(),
                ));
            }
            if smtp.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
                return Err(Failure::Broken(
                    "the server offers neither AUTH PLAIN nor AUTH LOGIN".to_owned(),
                ));
            }
            let login = smtp.auth(DEFAULT_MECHANISMS, credentials);
            let reply = step(*timeout, Step::Connect("the login"), login).await?;
            expect(&reply, &[235])?;
        }
        Ok(Self { smtp, timeout: *timeout, refused: false, mails: 0 })
    }

    /// Begins a mail: up to and including MAIL FROM.
    pub(super) async fn begin(&mut self, from: &Address, to: &Address) -> Result<(), Failure> {
        self.mails += 1;
        if std::mem::take(&mut self.refused) {
            self.command(Step::Connect("RSET"), Rset, &[250]).await?;
        }
        let mut parameters = Vec::new();
        let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !ascii(to) || !ascii(from) {
            if !self.smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Failure::Unsuited(
                    "the address is not ASCII, and the server does not offer SMTPUTF8".to_owned(),
                ));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        self.command(Step::Sender, Mail::new(Some(from.clone()), parameters), &[250]).await
    }

    /// Ends the mail that was begun. `Ok` only if the server has said 250 to all of it.
    pub(super) async fn finish(&mut self, to: &Address, message: &[u8]) -> Result<(), Failure> {
        let recipient = Rcpt::new(to.clone(), Vec::new());
        self.command(Step::Recipient, recipient, &[250, 251]).await?;
        self.command(Step::Content, Data, &[354]).await?;
        let reply = step(self.timeout, Step::Content, self.smtp.message(message)).await;
        self.note(reply).and_then(|reply| expect(&reply, &[250]))
    }

    /// Says goodbye.
    pub(super) async fn quit(mut self) {
        // Whatever the answer, the connection is given up.
        let _ = within(self.timeout, "QUIT", self.smtp.quit()).await;
    }

    async fn command(
        &mut self,
        at: Step,
        command: impl Display,
        codes: &[u16],
    ) -> Result<(), Failure> {
        let reply = step(self.timeout, at, self.smtp.command(command)).await;
        self.note(reply).and_then(|reply| expect(&reply, codes))
    }

    fn note<T>(&mut self, reply: Result<T, Failure>) -> Result<T, Failure> {
        self.refused |= reply.is_err();
        reply
    }
}

/// A positive reply to another question is proof that the conversation is out of step.
fn expect(reply: &Response, codes: &[u16]) -> Result<(), Failure> {
    let code = u16::from(reply.code());
    if codes.contains(&code) {
        return Ok(());
    }
    Err(Failure::Broken(format!("expected a reply of {codes:?}, found {code}")))
}

async fn step<T>(
    timeout: Duration,
    at: Step,
    future: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, Failure> {
    let what = match at {
        Step::Connect(what) => what,
        Step::Sender => "MAIL FROM",
        Step::Recipient => "RCPT TO",
        Step::Content => "the mail, which may have been taken",
    };
    within(timeout, what, future).await?.map_err(|error| Failure::of(at, &error))
}

async fn within<T>(
    timeout: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::time::timeout(timeout, future).await.map_err(|_| {
        Failure::Broken(format!("no answer within {} ms (at {what})", timeout.as_millis()))
    })
}

/// Lets the client library talk over a connection that was encrypted before.
#[derive(Debug)]
struct TlsStream(tokio_rustls::client::TlsStream<TcpStream>);

impl AsyncTokioStream for TlsStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
