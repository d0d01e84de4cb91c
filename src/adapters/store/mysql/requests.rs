//! Records of requests: what makes a repetition of one get the first answer again, and what
//! tells whether a commit took place.

use sqlx::mysql::MySqlConnection;

use super::failure::is_duplicate;
use super::{Failure, now_ms};
use crate::adapters::store::views;
use crate::pipeline::store::StoreError;
use crate::server::store::{Recorded, Reply, Request, RequestKey};

/// The record of a request that has committed.
pub(super) async fn find_record(
    connection: &mut MySqlConnection,
    key: &RequestKey,
) -> Result<Option<Recorded>, Failure> {
    let found = sqlx::query("SELECT fingerprint, reply FROM requests WHERE caller = ? AND id = ?")
        .bind(key.caller.as_bytes())
        .bind(key.id.as_bytes())
        .fetch_optional(connection)
        .await?;
    Ok(found.map(|row| views::recorded(&row, key)).transpose()?)
}

/// The same, and waits for a transaction under way that would record it.
pub(super) async fn settled_record(
    tx: &mut MySqlConnection,
    key: &RequestKey,
) -> Result<Option<Recorded>, Failure> {
    let found = sqlx::query(
        "SELECT fingerprint, reply FROM requests WHERE caller = ? AND id = ? FOR UPDATE",
    )
    .bind(key.caller.as_bytes())
    .bind(key.id.as_bytes())
    .fetch_optional(tx)
    .await?;
    Ok(found.map(|row| views::recorded(&row, key)).transpose()?)
}

/// Records what a request was answered; `None` if it is recorded already, by somebody whose
/// transaction is waited for. What this transaction did is to be undone then.
pub(super) async fn add_record(
    tx: &mut MySqlConnection,
    request: &Request,
    reply: Reply,
) -> Result<Option<Recorded>, Failure> {
    let text = serde_json::to_string(&reply)
        .map_err(|error| StoreError::Permanent(format!("a reply cannot be written: {error}")))?;
    let inserted = sqlx::query(concat!(
        "INSERT INTO requests (caller, id, method, fingerprint, reply, answered_ms) \
         VALUES (?, ?, ?, ?, ?, ",
        now_ms!(),
        ")"
    ))
    .bind(request.key.caller.as_bytes())
    .bind(request.key.id.as_bytes())
    .bind(&request.method)
    .bind(&request.fingerprint[..])
    .bind(text)
    .execute(tx)
    .await;
    match inserted {
        Ok(_) => {
            Ok(Some(Recorded { fingerprint: request.fingerprint, reply, again: false, view: None }))
        }
        Err(error) if is_duplicate(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
