//! One connection to one broker.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, VersionRange};
use rsasl::config::SASLConfig;
use rsasl::prelude::{Mechname, SASLClient};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{WireError, check, text};
use crate::adapters::broker::kafka::options::SaslMechanism;
use crate::adapters::tls::is_of_certificate;

/// How connections are opened.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) client_id: String,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) sasl: Option<Credentials>,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) frame_bytes_max: usize,
}

/// How a client proves who it is.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) mechanism: SaslMechanism,
    pub(super) username: String,
    pub(super) password: String,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open connection. After an error or a cancelled call it must not be used again.
pub(super) struct Connection {
    address: String,
    client_id: String,
    stream: Box<dyn Stream>,
    versions: HashMap<i16, VersionRange>,
    next_id: i32,
    frame_bytes_max: usize,
}

impl Connection {
    /// Connects to `address` and logs in.
    pub(super) async fn open(door: &Door, address: &str) -> Result<Self, WireError> {
        let failed = |cause: &dyn std::fmt::Display| {
            WireError::Unreachable(format!("no connection to {address}: {cause}"))
        };
        match tokio::time::timeout(door.connect_timeout, Self::connect(door, address)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Failure::Io(error))) if is_of_certificate(&error) => {
                Err(failed(&format!("{error}; check kafka.root_ca_file")))
            }
            Ok(Err(Failure::Io(error))) => Err(failed(&error)),
            Ok(Err(Failure::Wire(error))) => Err(error),
            Err(_) => Err(failed(&format!("no answer within {:?}", door.connect_timeout))),
        }
    }

    async fn connect(door: &Door, address: &str) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &door.tls {
            None => Box::new(tcp),
            Some(config) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(config.clone()).connect(name, tcp).await?)
            }
        };
        let mut connection = Self {
            address: address.to_owned(),
            client_id: door.client_id.clone(),
            stream,
            versions: HashMap::new(),
            next_id: 0,
            frame_bytes_max: door.frame_bytes_max,
        };
        connection.learn_versions().await?;
        if let Some(credentials) = &door.sasl {
            connection.log_in(credentials).await?;
        }
        Ok(connection)
    }

    async fn learn_versions(&mut self) -> Result<(), WireError> {
        let answer = self.exchange(&ApiVersionsRequest::default(), 0).await?;
        check(answer.error_code, "to state its versions", None)?;
        self.versions = answer
            .api_keys
            .iter()
            .map(|key| (key.api_key, VersionRange { min: key.min_version, max: key.max_version }))
            .collect();
        Ok(())
    }

    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), WireError> {
        let refused = |cause: String| WireError::Malformed(format!("no valid login: {cause}"));
        let Some(mechanism) = credentials.mechanism.name() else { return Ok(()) };
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|e| refused(e.to_string()))?;
        let handshake = SaslHandshakeRequest::default().with_mechanism(text(mechanism));
        let answer = self.call(&handshake, 1).await?;
        let offered: Vec<_> = answer.mechanisms.iter().map(ToString::to_string).collect();
        check(answer.error_code, "the login", Some(&text(&format!("it takes {offered:?}"))))?;
        let config = SASLConfig::with_credentials(
            None,
            credentials.username.clone(),
            credentials.password.clone(),
        )
        .map_err(|error| refused(error.to_string()))?;
        let mut session = SASLClient::new(config)
            .start_suggested(&[name])
            .map_err(|error| refused(error.to_string()))?;
        let mut received: Option<Bytes> = None;
        loop {
            let mut message = Vec::new();
            let state = session
                .step(received.as_deref(), &mut message)
                .map_err(|error| refused(error.to_string()))?;
            if state.has_sent_message() {
                let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
                let answer = self.call(&request, 2).await?;
                check(answer.error_code, "the login", answer.error_message.as_ref())?;
                received = Some(answer.auth_bytes);
            }
            if state.is_finished() {
                return Ok(());
            }
        }
    }

    /// Makes a request in the newest version that both sides know, at most `version_max`.
    pub(super) async fn call<R: Request>(
        &mut self,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, WireError> {
        let known = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(version_max) };
        let served = self.versions.get(&R::KEY);
        let range = served.map(|served| served.intersect(&known)).filter(|range| !range.is_empty());
        match range {
            Some(range) => self.exchange(request, range.max).await,
            None => Err(WireError::Malformed(format!(
                "that {} does not speak version {known} of the request {}",
                self.address,
                R::KEY
            ))),
        }
    }

    async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, WireError> {
        self.next_id = self.next_id.wrapping_add(1);
        let frame = encode(request, version, self.next_id, &self.client_id)
            .map_err(|cause| self.malformed(&cause))?;
        let mut answer = self.round_trip(&frame).await.map_err(|error| {
            WireError::Unreachable(format!("lost the connection to {}: {error}", self.address))
        })?;
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|error| self.malformed(&error))?;
        if header.correlation_id != self.next_id {
            return Err(self.malformed(&"an answer to another request"));
        }
        R::Response::decode(&mut answer, version).map_err(|error| self.malformed(&error))
    }

    fn malformed(&self, cause: &dyn std::fmt::Display) -> WireError {
        WireError::Malformed(format!("what is not understood from {}: {cause}", self.address))
    }

    async fn round_trip(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.frame_bytes_max)
            .ok_or_else(|| io::Error::other(format!("an answer of {length} bytes")))?;
        let mut answer = BytesMut::zeroed(length);
        self.stream.read_exact(&mut answer).await?;
        Ok(answer.freeze())
    }
}

/// Why no connection was made.
enum Failure {
    Io(io::Error),
    Wire(WireError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// A request with its length and header.
fn encode<R: Request>(
    request: &R,
    version: i16,
    id: i32,
    client_id: &str,
) -> Result<BytesMut, String> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(text(client_id)));
    header
        .encode(&mut frame, R::header_version(version))
        .and_then(|()| request.encode(&mut frame, version))
        .map_err(|error| error.to_string())?;
    let length = i32::try_from(frame.len() - 4).map_err(|error| error.to_string())?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}
