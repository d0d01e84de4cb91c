//! What a failure of the server means to the transaction that met it.

use sqlx::Error;
use sqlx::mysql::MySqlDatabaseError;

use crate::adapters::tls::is_of_certificate;
use crate::pipeline::store::StoreError;

/// Why one attempt at a transaction did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it is in effect, and another attempt may do better: a deadlock, a lock that
    /// was waited for too long, a connection that was lost before the commit.
    Again(String),
    /// The commit was on its way when the connection was lost: it may be in effect.
    Unknown(String),
    /// The answer.
    Final(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

/// What it means to a caller that does not try again.
impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Again(why) | Failure::Unknown(why) => Self::Transient(why),
            Failure::Final(error) => error,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Again(why)
            | Self::Unknown(why)
            | Self::Final(StoreError::Transient(why) | StoreError::Permanent(why)) => {
                f.write_str(why)
            }
            Self::Final(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Database(database) => match database.try_downcast_ref::<MySqlDatabaseError>() {
                Some(mysql) => mysql_error(mysql),
                None => Self::Final(StoreError::Permanent(database.to_string())),
            },
            Error::Io(io) if is_of_certificate(io) => Self::Again(format!(
                "the server's certificate is refused; check mysql.root_ca_file ({io})"
            )),
            // A protocol error is what a server that is being stopped leaves behind.
            Error::Io(_) | Error::Protocol(_) | Error::WorkerCrashed => {
                Self::Again(format!("the connection was lost ({error})"))
            }
            _ => Self::Final(StoreError::Permanent(error.to_string())),
        }
    }
}

impl Failure {
    /// A failure of the commit itself: only where the server says so it did not happen.
    pub(super) fn of_commit(error: Error) -> Self {
        match Self::from(error) {
            Self::Again(why) if why.starts_with(UNDONE) => Self::Again(why),
            Self::Again(why) | Self::Final(StoreError::Permanent(why)) => Self::Unknown(why),
            other => other,
        }
    }
}

/// How the text of a failure begins in which the server undid the transaction.
const UNDONE: &str = "undone by the server";

/// See <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>.
fn mysql_error(error: &MySqlDatabaseError) -> Failure {
    let text = error.message();
    match error.number() {
        // LOCK_DEADLOCK, LOCK_WAIT_TIMEOUT
        1213 => Failure::Again(format!("{UNDONE}: a deadlock")),
        1205 => Failure::Again(format!("a row is locked by another transaction ({text})")),
        // CON_COUNT, OUT_OF_RESOURCES, UNKNOWN_COM (Galera: not ready), SERVER_SHUTDOWN,
        // NEED_REPREPARE, TABLE_DEF_CHANGED, CONNECTION_KILLED, CLIENT_INTERACTION_TIMEOUT
        1040 | 1041 | 1047 | 1053 | 1412 | 1615 | 1927 | 4031 => Failure::Again(text.to_owned()),
        // OPTION_PREVENTS_STATEMENT (read only), READ_ONLY_MODE: a failover is under way
        1290 | 1836 => Failure::Again(format!("the server takes no writes at present ({text})")),
        // QUERY_INTERRUPTED, QUERY_TIMEOUT, STATEMENT_TIMEOUT
        1317 | 1969 | 3024 => Failure::Again(format!("the server stopped a statement ({text})")),
        // DISK_FULL, RECORD_FILE_FULL
        1021 | 1114 => {
            let why = format!("no room left; free some on the server's disk ({text})");
            Failure::Final(StoreError::Transient(why))
        }
        // DBACCESS_DENIED, ACCESS_DENIED
        1044 | 1045 | 1142 => Failure::Final(StoreError::Permanent(format!(
            "the user of mysql.url is refused; check its password and its rights ({text})"
        ))),
        1049 => Failure::Final(StoreError::Permanent(format!(
            "the database of mysql.url does not exist; create it with utf8mb4 ({text})"
        ))),
        number => Failure::Final(StoreError::Permanent(format!("{text} (error {number})"))),
    }
}

/// Whether a row with the same unique key exists.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(error, Error::Database(database) if database.is_unique_violation())
}
