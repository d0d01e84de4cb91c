//! What SQLite's errors mean for a caller of the log.

use std::path::Path;

use crate::pipeline::broker::BrokerError;

/// SQLite's primary result codes (<https://www.sqlite.org/rescode.html>).
pub(super) mod code {
    pub(in super::super) const BUSY: i32 = 5;
    pub(in super::super) const LOCKED: i32 = 6;
    pub(in super::super) const NOMEM: i32 = 7;
    pub(in super::super) const READONLY: i32 = 8;
    pub(in super::super) const IOERR: i32 = 10;
    pub(in super::super) const CORRUPT: i32 = 11;
    pub(in super::super) const FULL: i32 = 13;
    pub(in super::super) const CANTOPEN: i32 = 14;
    pub(in super::super) const NOTADB: i32 = 26;
}

/// The primary result code, if SQLite itself failed.
pub(super) fn primary(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// The error for the caller: what happened to which file, and what to do about it.
pub(super) fn explain(path: &Path, error: &sqlx::Error) -> BrokerError {
    let path = path.display();
    match primary(error) {
        Some(code::FULL) => BrokerError::Transient(format!(
            "there is no space left for {path}; the log goes on once there is"
        )),
        Some(code::BUSY | code::LOCKED) => {
            BrokerError::Transient(format!("another process has locked {path}"))
        }
        Some(code::IOERR | code::CANTOPEN | code::NOMEM) => {
            BrokerError::Transient(format!("{path} cannot be read or written: {error}"))
        }
        Some(code::READONLY) => BrokerError::Permanent(format!(
            "{path} is read-only: let the service write to the file and to its directory"
        )),
        Some(code::CORRUPT | code::NOTADB) => BrokerError::Permanent(format!(
            "{path} is damaged or no SQLite database ({error}): restore a copy, or move it away \
             to begin with an empty log"
        )),
        _ if matches!(error, sqlx::Error::PoolClosed) => BrokerError::Closed,
        _ if matches!(error, sqlx::Error::PoolTimedOut) => {
            BrokerError::Transient(format!("all connections that read {path} are busy"))
        }
        _ => BrokerError::Permanent(format!("{path}: {error}")),
    }
}
