//! Reads for the server: watches with what is known of them, prices, alerts.

use async_trait::async_trait;

use super::MysqlStore;
use super::bulk::{Bulk, padded};
use crate::adapters::store::rows::{self, alert_columns, signed, state_columns, watch_columns};
use crate::adapters::store::views::{alert_view, last_quote, quote, view};
use crate::model::{Symbol, UserId, WatchId};
use crate::pipeline::store::StoreError;
use crate::server::store::{AlertView, QueryStore, Quote, WatchView};

pub(super) const WATCHES_OF: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", ",
    state_columns!(),
    ", y.last_ms, y.last_price, y.currency, y.market FROM watches w \
     LEFT JOIN watch_states s ON s.watch_id = w.id \
     LEFT JOIN symbol_states y ON y.symbol = w.symbol \
     WHERE w.user_id = ? AND w.id > ? ORDER BY w.id LIMIT ?"
);
pub(super) const QUOTE: &str =
    "SELECT last_ms, last_price, currency, market FROM symbol_states WHERE symbol = ?";
/// By time, because a reset may let an older one in after it; the ring is small.
pub(super) const HISTORY: &str = "SELECT p.time_ms, p.price, y.currency \
     FROM prices p LEFT JOIN symbol_states y ON y.symbol = p.symbol \
     WHERE p.symbol = ? ORDER BY p.time_ms DESC, p.number DESC LIMIT ?";
pub(super) const ALERTS_OF: &str = concat!(
    "SELECT ",
    alert_columns!(),
    ", a.id, d.state FROM alerts a LEFT JOIN deliveries d ON d.alert_id = a.id \
     WHERE a.user_id = ? AND a.id < ? ORDER BY a.id DESC LIMIT ?"
);

#[async_trait]
impl QueryStore for MysqlStore {
    async fn watches(
        &self,
        user: UserId,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<WatchView>, StoreError> {
        let after = after.map_or(0, |id| signed(id.0));
        let found = self.rows(|| sqlx::query(WATCHES_OF).bind(user.0).bind(after).bind(limit));
        found.await?.iter().map(view).collect()
    }

    async fn quote(&self, symbol: Symbol) -> Result<Option<Quote>, StoreError> {
        match self.row(|| sqlx::query(QUOTE).bind(symbol.as_str().to_owned())).await? {
            Some(row) => last_quote(&row, 0, symbol),
            None => Ok(None),
        }
    }

    async fn history(&self, symbol: Symbol, limit: u32) -> Result<Vec<Quote>, StoreError> {
        let query = || sqlx::query(HISTORY).bind(symbol.as_str().to_owned()).bind(limit);
        self.rows(query).await?.iter().map(|row| quote(row, 0, symbol)).collect()
    }

    async fn symbol_notes(&self, symbols: &[Symbol]) -> Result<Vec<(Symbol, String)>, StoreError> {
        const NOTES: Bulk = Bulk {
            head: "SELECT symbol, note FROM symbol_notes WHERE symbol IN (",
            row: "?",
            between: ",",
            tail: ")",
        };
        let mut notes = Vec::new();
        for piece in padded(symbols) {
            let query = || {
                let query = NOTES.of(piece.len());
                piece.iter().fold(query, |query, symbol| query.bind(symbol.to_string()))
            };
            for row in &self.rows(query).await? {
                notes.push((rows::parsed(row, 0)?, rows::parsed(row, 1)?));
            }
        }
        Ok(notes)
    }

    async fn alerts(
        &self,
        user: UserId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<AlertView>, StoreError> {
        let before = before.map_or(i64::MAX, signed);
        let found = self.rows(|| sqlx::query(ALERTS_OF).bind(user.0).bind(before).bind(limit));
        found.await?.iter().map(alert_view).collect()
    }
}
