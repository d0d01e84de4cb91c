//! Upkeep: deletes what has outlived its age, some rows at a time, so that no write waits long.

use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use crate::pipeline::store::StoreError;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Requests are kept for as long as repetitions are promised an answer, whatever is configured.
const KEEP_REQUESTS_H_MIN: u32 = 24;

/// Deletes up to `sweep_rows_max` rows of each kind; whether some kind may have more.
pub(super) async fn sweep(store: &SqliteStore) -> Result<bool, StoreError> {
    let options = &store.inner.options;
    let now_ms = store.inner.clock.now().millis();
    let days_ago = |days: u32| now_ms.saturating_sub(i64::from(days) * DAY_MS);
    let requests_h = i64::from(options.keep_requests_h.max(KEEP_REQUESTS_H_MIN));
    let deliveries_before_ms = days_ago(options.keep_deliveries_days);
    let rows_max = options.sweep_rows_max.max(1);

    let mut more =
        alerts(store, days_ago(options.keep_alerts_days), deliveries_before_ms, rows_max).await?;
    for (statement, before_ms) in [
        (
            "DELETE FROM requests WHERE (caller, id) IN (
                 SELECT caller, id FROM requests WHERE answered_ms < ?
                 ORDER BY answered_ms LIMIT ?)",
            now_ms.saturating_sub(requests_h * HOUR_MS),
        ),
        (
            "DELETE FROM sessions WHERE token IN (
                 SELECT token FROM sessions WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?)",
            now_ms,
        ),
        (
            "DELETE FROM applied_changes WHERE id IN (
                 SELECT id FROM applied_changes WHERE applied_ms < ? ORDER BY applied_ms LIMIT ?)",
            days_ago(options.keep_applied_changes_days),
        ),
        (
            "DELETE FROM dead_records WHERE id IN (
                 SELECT id FROM dead_records WHERE set_aside_ms < ? ORDER BY set_aside_ms LIMIT ?)",
            deliveries_before_ms,
        ),
    ] {
        // A transaction each, so that commands and ticks get their turn in between.
        let mut tx = store.write().await?;
        let deleted = sqlx::query(statement)
            .bind(before_ms)
            .bind(rows_max)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        tx.commit().await?;
        more |= deleted >= u64::from(rows_max);
    }
    Ok(more | prices(store, rows_max).await?)
}

/// Deletes alerts together with their deliveries, once both are old enough: an alert without
/// its delivery would look as if it were still on its way, and be delivered again. What is
/// undelivered stays, however old it is.
async fn alerts(
    store: &SqliteStore,
    made_before_ms: i64,
    ended_before_ms: i64,
    rows_max: u32,
) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let old: Vec<i64> = sqlx::query_scalar(
        "SELECT a.id FROM alerts a JOIN deliveries d ON d.alert_id = a.id
         WHERE a.made_ms < ? AND d.state IN ('delivered', 'dead', 'cancelled')
           AND d.changed_ms < ?
         ORDER BY a.made_ms LIMIT ?",
    )
    .bind(made_before_ms)
    .bind(ended_before_ms)
    .bind(rows_max)
    .fetch_all(&mut *tx)
    .await?;
    if old.is_empty() {
        return Ok(false);
    }
    let ids = serde_json::json!(old).to_string();
    delete(&mut tx, "DELETE FROM alerts WHERE id IN (SELECT value FROM json_each(?))", &ids)
        .await?;
    delete(
        &mut tx,
        "DELETE FROM deliveries WHERE alert_id IN (SELECT value FROM json_each(?))",
        &ids,
    )
    .await?;
    tx.commit().await?;
    Ok(old.len() as u64 >= u64::from(rows_max))
}

/// Deletes the prices of symbols that nobody watches, and of those that have had none for long:
/// for long by the newest price of any symbol, because ticks of the past are as good as live
/// ones to the rules.
async fn prices(store: &SqliteStore, rows_max: u32) -> Result<bool, StoreError> {
    let options = &store.inner.options;
    let symbols_max = (rows_max / options.prices_per_symbol.max(1)).max(1);
    let mut tx = store.write().await?;
    let old: Vec<String> = sqlx::query_scalar(
        "SELECT y.symbol FROM symbol_states y
         WHERE (y.last_ms < (SELECT MAX(last_ms) FROM symbol_states) - ?
                OR NOT EXISTS (SELECT 1 FROM watched_symbols v WHERE v.symbol = y.symbol))
           AND EXISTS (SELECT 1 FROM prices p WHERE p.symbol = y.symbol)
         LIMIT ?",
    )
    .bind(i64::from(options.keep_prices_days) * DAY_MS)
    .bind(symbols_max)
    .fetch_all(&mut *tx)
    .await?;
    if old.is_empty() {
        return Ok(false);
    }
    let symbols = serde_json::json!(old).to_string();
    delete(
        &mut tx,
        "DELETE FROM prices WHERE symbol IN (SELECT value FROM json_each(?))",
        &symbols,
    )
    .await?;
    tx.commit().await?;
    Ok(old.len() as u64 >= u64::from(symbols_max))
}

async fn delete(
    tx: &mut SqliteConnection,
    statement: &'static str,
    keys: &str,
) -> Result<(), StoreError> {
    sqlx::query(statement).bind(keys).execute(tx).await?;
    Ok(())
}
