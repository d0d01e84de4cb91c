//! Records of requests: what makes a repetition of one get the first answer again.

use sqlx::sqlite::SqliteConnection;

use super::views;
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
    found.map(|row| views::recorded(&row, key)).transpose()
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
    Ok(Recorded { fingerprint: request.fingerprint, reply, again: false, view: None })
}
