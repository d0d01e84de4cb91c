//! What a failure of a database means to the stages: worth another try or not.

use sqlx::Error;
use sqlx::sqlite::SqliteError;

use crate::pipeline::store::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match &error {
            Error::Database(database) => match database.try_downcast_ref::<SqliteError>() {
                Some(sqlite) => sqlite_error(sqlite),
                None => Self::Permanent(database.to_string()),
            },
            Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed => {
                Self::Transient(error.to_string())
            }
            _ => Self::Permanent(error.to_string()),
        }
    }
}

/// See <https://www.sqlite.org/rescode.html>; the low byte is the primary code.
fn sqlite_error(error: &SqliteError) -> StoreError {
    use sqlx::error::DatabaseError;
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(1);
    let text = error.message();
    match code & 0xff {
        // BUSY, LOCKED, PROTOCOL
        5 | 6 | 15 => StoreError::Transient(format!("locked by another process ({text})")),
        // NOMEM, INTERRUPT, CANTOPEN
        7 | 9 | 14 => StoreError::Transient(text.to_owned()),
        // IOERR
        10 => StoreError::Transient(format!("reading or writing its file failed ({text})")),
        13 => StoreError::Transient(format!("no room left; free some on its disk ({text})")),
        8 => StoreError::Permanent(format!(
            "its file is read-only; let this user write it and its folder ({text})"
        )),
        // CORRUPT, NOTADB
        11 | 26 => StoreError::Permanent(format!(
            "its file is damaged or no database; restore it from a backup ({text})"
        )),
        _ => StoreError::Permanent(text.to_owned()),
    }
}
