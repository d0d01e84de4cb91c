//! The options of the server node.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::board::BoardOptions;
use super::legacy::LegacyOptions;
use super::password::PasswordOptions;
use super::sessions::SessionOptions;
use super::tail::TailOptions;
use super::throttle::ThrottleOptions;

/// The server node.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// The gRPC port.
    pub grpc: GrpcOptions,
    /// The port of metrics and health.
    pub http: HttpOptions,
    /// Tokens.
    pub sessions: SessionOptions,
    /// Password hashing.
    pub passwords: PasswordOptions,
    /// Failed logins.
    pub throttle: ThrottleOptions,
    /// Newest prices and streams.
    pub board: BoardOptions,
    /// Reading the topics.
    pub tail: TailOptions,
    /// The key of request fingerprints, which all servers of a store share, in hex digits; no
    /// text: one that is made and kept in the data folder.
    pub fingerprint_key: String,
    /// The original's API. In the settings it is a table of its own.
    #[serde(skip)]
    pub legacy: LegacyOptions,
}

/// The gRPC port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A PEM file with the certificate chain; with it and the key, the port speaks TLS only.
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Milliseconds that a TLS handshake may take.
    pub tls_handshake_ms: u64,
    /// Bytes of the largest message taken.
    pub message_bytes_max: usize,
    /// Connections open at the same time at most; others wait to be accepted.
    pub connections_max: usize,
    /// Milliseconds within which a connection must send its first byte. Later on it is closed
    /// when it was silent for 10 s more than the two times below.
    pub first_byte_ms: u64,
    /// Calls and streams open on one connection at the same time at most.
    pub calls_per_connection_max: u32,
    /// Streams of health and reflection, which need no login, open at the same time at most.
    pub probe_streams_max: usize,
    /// Of these, on one connection.
    pub probe_streams_per_connection_max: usize,
    /// Milliseconds after which a silent connection is asked for a sign of life.
    pub keepalive_interval_ms: u64,
    /// Milliseconds after which a connection that gave none is closed.
    pub keepalive_timeout_ms: u64,
    /// Milliseconds after which, or up to half of them earlier, a connection is told to take no
    /// more calls, so that its client connects anew; 0: never. One over which somebody logged in
    /// to the original's API is never told so: the login would be lost.
    pub connection_age_max_ms: u64,
    /// Milliseconds that calls and streams go on after that, before they are ended.
    pub connection_age_grace_ms: u64,
    /// Milliseconds after which a call is answered DEADLINE_EXCEEDED, should its caller have
    /// set no shorter deadline; a command runs to its end all the same. Streams are not bound.
    pub request_timeout_ms: u64,
    /// Commands that run at the same time at most, callers that wait for one counted like it;
    /// what comes beyond is answered "try again".
    pub commands_max: usize,
    /// Milliseconds that calls have to end in when the server stops; after as many again the
    /// commands that still run are given up.
    pub shutdown_timeout_ms: u64,
    /// Milliseconds that asking the source for a new watch's symbol may delay the answer.
    pub symbol_check_ms: u64,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50_051)),
            tls_cert: None,
            tls_key: None,
            tls_handshake_ms: 10_000,
            message_bytes_max: 4 << 20,
            connections_max: 10_000,
            first_byte_ms: 10_000,
            calls_per_connection_max: 256,
            probe_streams_max: 1_000,
            probe_streams_per_connection_max: 4,
            keepalive_interval_ms: 60_000,
            keepalive_timeout_ms: 20_000,
            connection_age_max_ms: 3_600_000,
            connection_age_grace_ms: 300_000,
            request_timeout_ms: 30_000,
            commands_max: 1_024,
            shutdown_timeout_ms: 5_000,
            symbol_check_ms: 1_500,
        }
    }
}

/// The port of metrics and health.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections open at the same time at most; others wait to be accepted.
    pub connections_max: usize,
    /// Milliseconds within which a connection must send its first byte. Later on it is closed
    /// when it was silent for 30 s.
    pub first_byte_ms: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9_999)),
            connections_max: 256,
            first_byte_ms: 10_000,
        }
    }
}
