//! Upkeep: deletes what has outlived its age, some rows at a time, so that no lock is held long.

use super::bulk::{Bulk, padded};
use super::{Failure, MysqlStore, now_ms};
use crate::adapters::store::rows::{int, parsed};
use crate::model::Symbol;
use crate::pipeline::store::StoreError;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Requests are kept for as long as repetitions are promised an answer, whatever is configured.
const KEEP_REQUESTS_H_MIN: u32 = 24;

macro_rules! delete_older {
    ($table:literal, $time:literal, $compare:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ",
            $time,
            " ",
            $compare,
            " ",
            now_ms!(),
            " - ? ORDER BY ",
            $time,
            " LIMIT ?"
        )
    };
}
pub(super) const REQUESTS: &str = delete_older!("requests", "answered_ms", "<");
pub(super) const SESSIONS: &str = delete_older!("sessions", "expires_ms", "<=");
pub(super) const APPLIED: &str = delete_older!("applied_changes", "applied_ms", "<");
pub(super) const RECORDS: &str = delete_older!("dead_records", "set_aside_ms", "<");
/// Locked until they are deleted: a dead letter may be sent again meanwhile.
pub(super) const ALERTS: &str = concat!(
    "SELECT a.id FROM alerts a JOIN deliveries d ON d.alert_id = a.id \
     WHERE a.made_ms < ",
    now_ms!(),
    " - ? AND d.state IN ('delivered', 'dead', 'cancelled') AND d.changed_ms < ",
    now_ms!(),
    " - ? ORDER BY a.made_ms LIMIT ? FOR UPDATE"
);

/// Deletes up to `sweep_rows_max` rows of each kind; whether some kind may have more.
pub(super) async fn sweep(store: &MysqlStore) -> Result<bool, StoreError> {
    let options = &store.inner.options;
    let days = |days: u32| i64::from(days) * DAY_MS;
    let requests = i64::from(options.keep_requests_h.max(KEEP_REQUESTS_H_MIN)) * HOUR_MS;
    let (keep_alerts, keep_deliveries) =
        (days(options.keep_alerts_days), days(options.keep_deliveries_days));
    let rows_max = options.sweep_rows_max.max(1);

    let mut more =
        store.attempts(|_| alerts(store, keep_alerts, keep_deliveries, rows_max)).await?;
    for (statement, age) in [
        (REQUESTS, requests),
        (SESSIONS, 0),
        (APPLIED, days(options.keep_applied_changes_days)),
        (RECORDS, keep_deliveries),
    ] {
        // Each commits by itself.
        let deleted = store.attempts(|_| async move {
            let mut connection = store.read().await?;
            let query = sqlx::query(statement).bind(age).bind(rows_max);
            let deleted = query.execute(&mut *connection).await?.rows_affected();
            connection.give_back();
            Ok::<_, Failure>(deleted)
        });
        more |= deleted.await? >= u64::from(rows_max);
    }
    Ok(more | store.attempts(|_| prices(store, rows_max)).await?)
}

/// Deletes alerts together with their deliveries, once both are old enough: an alert without
/// its delivery would look as if it were still on its way, and be delivered again. What is
/// undelivered stays, however old it is.
async fn alerts(
    store: &MysqlStore,
    made_ago_ms: i64,
    ended_ago_ms: i64,
    rows_max: u32,
) -> Result<bool, Failure> {
    const ALERT: Bulk =
        Bulk { head: "DELETE FROM alerts WHERE id IN (", row: "?", between: ",", tail: ")" };
    const DELIVERY: Bulk = Bulk {
        head: "DELETE FROM deliveries WHERE alert_id IN (",
        row: "?",
        between: ",",
        tail: ")",
    };
    let mut tx = store.begin().await?;
    let found = sqlx::query(ALERTS).bind(made_ago_ms).bind(ended_ago_ms).bind(rows_max);
    let mut old = Vec::new();
    for row in found.fetch_all(&mut *tx).await? {
        old.push(int(&row, 0)?);
    }
    for list in [ALERT, DELIVERY] {
        for piece in padded(&old) {
            let query = list.of(piece.len());
            let query = piece.into_iter().fold(query, |query, id| query.bind(*id));
            query.execute(&mut *tx).await?;
        }
    }
    tx.commit().await?;
    Ok(old.len() as u64 >= u64::from(rows_max))
}

/// Deletes the prices of symbols that nobody watches, and of those that have had none for long:
/// for long by the newest price of any symbol, because ticks of the past are as good as live
/// ones to the rules.
async fn prices(store: &MysqlStore, rows_max: u32) -> Result<bool, Failure> {
    const PRICES: Bulk =
        Bulk { head: "DELETE FROM prices WHERE symbol IN (", row: "?", between: ",", tail: ")" };
    let options = &store.inner.options;
    let symbols_max = (rows_max / options.prices_per_symbol.max(1)).max(1);
    let mut tx = store.begin().await?;
    let found = sqlx::query(
        "SELECT y.symbol FROM symbol_states y \
         WHERE (y.last_ms < (SELECT MAX(last_ms) FROM symbol_states) - ? \
                OR NOT EXISTS (SELECT 1 FROM watched_symbols v WHERE v.symbol = y.symbol)) \
           AND EXISTS (SELECT 1 FROM prices p WHERE p.symbol = y.symbol) \
         LIMIT ?",
    )
    .bind(i64::from(options.keep_prices_days) * DAY_MS)
    .bind(symbols_max)
    .fetch_all(&mut *tx)
    .await?;
    let mut old: Vec<Symbol> = Vec::new();
    for row in &found {
        old.push(parsed(row, 0)?);
    }
    for piece in padded(&old) {
        let query = PRICES.of(piece.len());
        let query =
            piece.into_iter().fold(query, |query, symbol| query.bind(symbol.as_str().to_owned()));
        query.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(old.len() as u64 >= u64::from(symbols_max))
}
