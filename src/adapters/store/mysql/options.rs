//! Options of the MySQL store: every bound, with its unit in its name.

use std::path::PathBuf;

use serde::Deserialize;

/// Where the database is, and the bounds of using it. Ages and numbers kept are those of
/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MysqlOptions {
    /// `mysql://USER:PASSWORD@HOST:PORT/DATABASE`; no text: the store is the embedded one.
    pub url: String,
    /// A PEM file of the certificate authorities that the server's certificate is checked
    /// against; no text: those that the URL's `ssl-ca` names, if any.
    pub root_ca_file: PathBuf,
    /// Connections at the same time, at most.
    pub connections_max: u32,
    /// How long a call waits for a connection, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Seconds after which an unused connection is closed, by the server as well: what a process
    /// that stands still has locked is free after that.
    pub idle_s: u32,
    /// How long a statement waits for a lock, in seconds.
    pub lock_wait_s: u32,
    /// How long a transaction may take, in milliseconds. Its connection is given up then.
    pub transaction_timeout_ms: u64,
    /// How often a transaction that failed for a passing reason is repeated, at most.
    pub retries_max: u32,
    /// The wait before the first repetition, in milliseconds; it doubles each time.
    pub retry_backoff_ms: u64,
}

impl Default for MysqlOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            root_ca_file: PathBuf::new(),
            connections_max: 32,
            connect_timeout_ms: 5_000,
            idle_s: 10,
            lock_wait_s: 5,
            transaction_timeout_ms: 15_000,
            retries_max: 8,
            retry_backoff_ms: 10,
        }
    }
}
