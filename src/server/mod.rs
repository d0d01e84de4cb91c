//! The server node: both gRPC APIs, and the HTTP pages for operators.
//!
//! Commands change and queries read; both APIs share them, over the ports in [`store`] and
//! [`cache`]. The tails bring in what other processes accept and make.

pub mod board;
pub mod cache;
pub mod commands;
mod connections;
pub(crate) mod deadline;
pub mod fanout;
pub mod fault;
pub mod http;
mod incoming;
pub(crate) mod legacy;
pub mod login;
mod observe;
mod options;
pub mod password;
mod probe;
pub mod queries;
pub mod secret;
pub mod sessions;
mod start;
pub mod store;
pub mod tail;
pub mod throttle;
pub(crate) mod v1;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use legacy::{Authorisation, LegacyOptions};
pub use options::{GrpcOptions, HttpOptions, ServerOptions};
pub use start::{Running, Server};

use self::board::Board;
use self::cache::RequestCache;
use self::commands::Commands;
use self::http::Pages;
use self::login::Logins;
use self::queries::Queries;
use self::secret::SecretKey;
use self::sessions::Sessions;
use self::store::{AccountStore, CommandStore, OperatorStore, QueryStore};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pipeline::broker::Broker;
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::collect::{Door, Quotes};

/// Bytes of the largest message that carries no ticks: some times what the longest fields take.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// What the server node works with.
#[derive(Clone)]
pub struct Ports {
    /// The commands' transactions.
    pub commands: Arc<dyn CommandStore>,
    /// Accounts and sessions.
    pub accounts: Arc<dyn AccountStore>,
    /// The queries' reads.
    pub queries: Arc<dyn QueryStore>,
    /// Dead letters.
    pub operator: Arc<dyn OperatorStore>,
    /// Answers of requests.
    pub cache: Arc<dyn RequestCache>,
    /// The log, which is tailed, and gets back dead records that are retried.
    pub broker: Arc<dyn Broker>,
    /// Where pushed ticks go.
    pub door: Arc<dyn Door>,
    /// The source, asked whether it knows the symbol of a new watch; `None` to ask nobody.
    pub market: Option<Arc<dyn Quotes>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub random: Arc<dyn Random>,
    /// The key of request fingerprints, shared by all servers of a store.
    pub secret: SecretKey,
    /// Where calls are counted.
    pub metrics: Metrics,
    /// Where readiness is said and read.
    pub health: Health,
    /// The HTTP pages, if they are served already; `None`: the server serves them.
    pub pages: Option<Pages>,
}

/// Why the server can't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be listened on.
    #[error("can't listen on {addr} for {what}: {error}")]
    Bind {
        /// Which port of the product.
        what: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What is wrong with it.
        error: io::Error,
    },
    /// A file of the TLS options can't be read.
    #[error("can't read {path} for TLS: {error}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The TLS options do not fit together.
    #[error("can't use the options tls_cert and tls_key: {0}")]
    Tls(String),
    /// The time zone is not known.
    #[error("the option legacy.time_zone: expected an IANA time zone, found {zone:?} ({error})")]
    TimeZone {
        /// The zone.
        zone: String,
        /// What is wrong with it.
        error: String,
    },
    /// Reflection can't be offered.
    #[error("the API's descriptors can't be used: {0}")]
    Reflection(String),
    /// Serving ended with an error.
    #[error("serving {what} failed: {error}")]
    Serve {
        /// Which port of the product.
        what: &'static str,
        /// What happened.
        error: String,
    },
}

/// What the services of both APIs share.
struct Services {
    commands: Commands,
    queries: Queries,
    sessions: Arc<Sessions>,
    logins: Arc<Logins>,
    board: Arc<Board>,
    accounts: Arc<dyn AccountStore>,
    operator: Arc<dyn OperatorStore>,
    broker: Arc<dyn Broker>,
    door: Arc<dyn Door>,
    market: Option<Arc<dyn Quotes>>,
    symbol_check_ms: u64,
    symbol_check: Semaphore,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: CancellationToken,
}
