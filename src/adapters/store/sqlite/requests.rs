//! Records of requests: what makes a repetition of one get the first answer again.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use crate::pipeline::store::StoreError;
use crate::server::store::{Recorded, Reply, Request, RequestKey};

/// The record of a request.
pub(super) async fn find_record(
    connection: &mut SqliteConnection,
    key: &RequestKey,
) -> Result<Option<Recorded>, StoreError> {
    let found = sqlx::query("SELECT fingerprint, reply FROM requests WHERE caller = ? AND id = ?")
        .bind(&key.caller)
        .bind(&key.id)
        .fetch_optional(connection)
        .await?;
    let Some(row) = found else { return Ok(None) };
    let fingerprint = row.try_get::<&[u8], _>(0)?.try_into();
    let reply = serde_json::from_str(row.try_get(1)?);
    match (fingerprint, reply) {
        (Ok(fingerprint), Ok(reply)) => Ok(Some(Recorded { fingerprint, reply })),
        _ => Err(StoreError::Permanent(format!(
            "the record of request {} is damaged: restore the store's file from a backup",
            key.id
        ))),
    }
}

/// Records what a request was answered.
pub(super) async fn add_record(
    tx: &mut SqliteConnection,
    request: &Request,
    reply: Reply,
    now_ms: i64,
) -> Result<Recorded, StoreError> {
    let text = serde_json::to_string(&reply)
        .map_err(|error| StoreError::Permanent(format!("a reply cannot be written: {error}")))?;
    sqlx::query(
        "INSERT INTO requests (caller, id, method, fingerprint, reply, answered_ms)
         VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(&request.key.caller)
    .bind(&request.key.id)
    .bind(&request.method)
    .bind(&request.fingerprint[..])
    .bind(text)
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(Recorded { fingerprint: request.fingerprint, reply })
}
