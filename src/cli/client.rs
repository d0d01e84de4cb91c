//! The way to the server: connection, token, request ids and retries.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::failure::{Failure, is_transient, note};
use super::token::TokenFile;
use crate::adapters::clock::{SeededRandom, SystemClock};
use crate::pipeline::clock::{Clock, Random};

/// How often a call is repeated at most.
pub(super) const RETRIES_MAX: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LONGEST: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server's own bound for a call, so that its answer is the one that counts.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// How soon a lost server is noticed while a stream is silent.
const KEEPALIVE: Duration = Duration::from_secs(20);

// Options of every command that asks a server. (A doc comment would replace the program's.)
#[derive(Args, Clone, Debug)]
pub(super) struct ClientArgs {
    /// The server: http://HOST:PORT, or https://HOST:PORT for one with TLS.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TRIPLINE_SERVER",
        default_value = "http://127.0.0.1:50051",
        help_heading = "Client options"
    )]
    server: String,

    /// A PEM file of authorities to trust instead of the well-known ones, for https.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Client options")]
    ca: Option<PathBuf>,

    /// Write JSON lines, as is done anyway where the output is no terminal.
    #[arg(long, global = true, help_heading = "Client options")]
    pub(super) json: bool,
}

/// A server, and who asks it.
pub(super) struct Client {
    server: String,
    channel: Channel,
    tokens: TokenFile,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// A client that bears no token: to register, and to log in.
    pub(super) fn anonymous(args: &ClientArgs) -> Result<Self, Failure> {
        let uri = server_uri(&args.server)?;
        let tokens = TokenFile::of(&uri)?;
        let channel = endpoint(&uri, args)?.connect_lazy();
        let server = uri.to_string().trim_end_matches('/').to_owned();
        if is_exposed(&uri) {
            note("warning: without https, others on the way can read passwords and tokens");
        }
        Ok(Self { server, channel, tokens, token: None })
    }

    /// A client that bears the token of the last login.
    pub(super) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let mut client = Self::anonymous(args)?;
        let token = client.tokens.read()?.ok_or_else(|| {
            Failure::failed(format!("not logged in to {}", client.server))
                .or_next("run `tripline login EMAIL`")
        })?;
        let token = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| {
            Failure::failed("expected a token of printable ASCII, found other characters")
                .or_next("run `tripline login EMAIL`")
        })?;
        client.token = Some(token);
        Ok(client)
    }

    pub(super) fn tokens(&self) -> &TokenFile {
        &self.tokens
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with the token.
    pub(super) fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    /// Calls the server. What may go well in a while is repeated a few times, with the same
    /// request id, so that it is carried out only once.
    pub(super) async fn call<Q, A, F>(
        &self,
        message: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Failure>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.try_call(message, send).await.map_err(|status| self.failure(&status))
    }

    /// As [`call`](Self::call), for callers who tell statuses apart.
    pub(super) async fn try_call<Q, A, F>(
        &self,
        message: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Status>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let id = Uuid::new_v4().to_string();
        let id =
            MetadataValue::try_from(id).map_err(|error| Status::internal(error.to_string()))?;
        let mut attempt = 0;
        loop {
            let mut request = self.request(message.clone());
            request.metadata_mut().insert("request-id", id.clone());
            let answer = tokio::time::timeout(CALL_TIMEOUT, send(self.channel.clone(), request));
            let late = |_| Status::deadline_exceeded("the server did not answer in time");
            match answer.await.unwrap_or_else(|error| Err(late(error))) {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if attempt < RETRIES_MAX && is_transient(&status) => {
                    pause(attempt).await;
                    attempt += 1;
                }
                Err(status) => return Err(status),
            }
        }
    }

    /// What a status means to the user.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        Failure::of_status(status, &self.server)
    }
}

/// Waits before repetition `attempt`, counted from 0: longer each time, with jitter.
pub(super) async fn pause(attempt: u32) {
    let delay = BACKOFF_FIRST.saturating_mul(1 << attempt.min(20)).min(BACKOFF_LONGEST);
    SystemClock.sleep(SeededRandom::from_host().jitter(delay)).await;
}

/// Whether others on the way can read what is sent.
fn is_exposed(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    uri.scheme_str() == Some("http") && !is_loopback
}

fn server_uri(server: &str) -> Result<Uri, Failure> {
    let wrong = || {
        let message = format!("--server: expected http(s)://HOST:PORT, found {server:?}");
        Failure::bad_input(message)
    };
    let uri: Uri = server.parse().map_err(|_| wrong())?;
    let is_server = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    if is_server { Ok(uri) } else { Err(wrong()) }
}

fn endpoint(uri: &Uri, args: &ClientArgs) -> Result<Endpoint, Failure> {
    let endpoint = Endpoint::from(uri.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    if uri.scheme_str() != Some("https") {
        return match &args.ca {
            Some(_) => Err(Failure::bad_input("--ca: expected an https server, found http")),
            None => Ok(endpoint),
        };
    }
    let tls = ClientTlsConfig::new();
    let tls = match &args.ca {
        None => tls.trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let pem = fs::read(file).map_err(|cause| {
                let file = file.display();
                Failure::bad_input(format!("{file}: expected a readable file, found: {cause}"))
            })?;
            tls.ca_certificate(Certificate::from_pem(pem))
        }
    };
    let wrong = |cause| Failure::bad_input(format!("--ca: expected certificates, found: {cause}"));
    endpoint.tls_config(tls).map_err(wrong)
}
