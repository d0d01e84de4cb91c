//! Reads for the server: watches with what is known of them, prices, alerts.

use async_trait::async_trait;

use super::SqliteStore;
use super::rows::{self, alert_columns, state_columns, watch_columns};
use super::views::{alert_view, last_quote, quote, view};
use crate::model::{Symbol, UserId, WatchId};
use crate::pipeline::store::StoreError;
use crate::server::store::{AlertView, QueryStore, Quote, WatchView};

#[async_trait]
impl QueryStore for SqliteStore {
    async fn watches(
        &self,
        user: UserId,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<WatchView>, StoreError> {
        let mut connection = self.read().await?;
        let found = sqlx::query(concat!(
            "SELECT ",
            watch_columns!(),
            ", ",
            state_columns!(),
            ", y.last_ms, y.last_price, y.currency, y.market
             FROM watches w
             LEFT JOIN watch_states s ON s.watch_id = w.id
             LEFT JOIN symbol_states y ON y.symbol = w.symbol
             WHERE w.user_id = ? AND w.id > ? ORDER BY w.id LIMIT ?"
        ))
        .bind(user.0)
        .bind(after.map_or(0, |id| rows::signed(id.0)))
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        found.iter().map(view).collect()
    }

    async fn quote(&self, symbol: Symbol) -> Result<Option<Quote>, StoreError> {
        let mut connection = self.read().await?;
        let row = sqlx::query(
            "SELECT last_ms, last_price, currency, market FROM symbol_states WHERE symbol = ?",
        )
        .bind(symbol.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        match row {
            Some(row) => last_quote(&row, 0, symbol),
            None => Ok(None),
        }
    }

    async fn symbol_notes(&self, symbols: &[Symbol]) -> Result<Vec<(Symbol, String)>, StoreError> {
        let mut connection = self.read().await?;
        let names: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
        let found = sqlx::query(
            "SELECT symbol, note FROM symbol_notes
             WHERE symbol IN (SELECT value FROM json_each(?))",
        )
        .bind(serde_json::Value::from(names).to_string())
        .fetch_all(&mut *connection)
        .await?;
        found.iter().map(|row| Ok((rows::parsed(row, 0)?, rows::parsed(row, 1)?))).collect()
    }

    async fn history(&self, symbol: Symbol, limit: u32) -> Result<Vec<Quote>, StoreError> {
        let mut connection = self.read().await?;
        // By time, because a reset may let an older one in after it; the ring is small.
        let found = sqlx::query(
            "SELECT p.time_ms, p.price, y.currency
             FROM prices p LEFT JOIN symbol_states y ON y.symbol = p.symbol
             WHERE p.symbol = ? ORDER BY p.time_ms DESC, p.number DESC LIMIT ?",
        )
        .bind(symbol.as_str())
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        found.iter().map(|row| quote(row, 0, symbol)).collect()
    }

    async fn alerts(
        &self,
        user: UserId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AlertView>, StoreError> {
        let mut connection = self.read().await?;
        let found = sqlx::query(concat!(
            "SELECT ",
            alert_columns!(),
            ", a.id, d.state FROM alerts a LEFT JOIN deliveries d ON d.alert_id = a.id
             WHERE a.user_id = ? AND a.id < ? ORDER BY a.id DESC LIMIT ?"
        ))
        .bind(user.0)
        .bind(before.map_or(i64::MAX, rows::signed))
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        found.iter().map(alert_view).collect()
    }
}
