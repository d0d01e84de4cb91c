//! What the evaluator reads: partitions, symbols, watches, changes, alerts to publish.
//!
//! What it commits is in [`super::evaluation`].

use std::time::Duration;

use async_trait::async_trait;

use super::{Failure, MysqlStore, evaluation};
use crate::adapters::store::TICKS_TOPIC;
use crate::adapters::store::rows::{
    WATCH_COLUMNS, alert_columns, numbered_alert, pending_change, signed, state, state_columns,
    symbol_state, watch, watch_columns,
};
use crate::model::{AlertSeq, Offset, Partition, Symbol, Watch, WatchId, WatchState};
use crate::pipeline::evaluate::{
    EvaluateStore, Evaluation, NumberedAlert, Owned, PendingChange, SymbolState,
};
use crate::pipeline::store::{Fence, Span, StoreError};

/// How often other processes' changes are looked for.
const FOREIGN_POLL: Duration = Duration::from_millis(250);

pub(super) const SYMBOLS: &str = "SELECT symbol, last_ms, last_price, currency, market, prices \
     FROM symbol_states WHERE `partition` = ? AND symbol > ? ORDER BY symbol LIMIT ?";

pub(super) const WATCHES: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", ",
    state_columns!(),
    " FROM watches w LEFT JOIN watch_states s ON s.watch_id = w.id \
     WHERE w.`partition` = ? AND w.id > ? ORDER BY w.id LIMIT ?",
);

pub(super) const CHANGES: &str = concat!(
    "SELECT ",
    watch_columns!(),
    ", ",
    state_columns!(),
    ", c.id, c.symbol, c.watch_id FROM changes c \
     LEFT JOIN watches w ON w.id = c.watch_id AND w.symbol = c.symbol \
     LEFT JOIN watch_states s ON s.watch_id = w.id \
     WHERE c.`partition` = ? ORDER BY c.id LIMIT ?",
);

pub(super) const HAS_CHANGES: &str = "SELECT id FROM changes WHERE `partition` = ? LIMIT 1";

pub(super) const ALERTS_AFTER: &str = concat!(
    "SELECT a.seq, a.accepted_ms, ",
    alert_columns!(),
    " FROM alerts a WHERE a.`partition` = ? AND a.seq > ? ORDER BY a.seq LIMIT ?",
);

#[async_trait]
impl EvaluateStore for MysqlStore {
    async fn own(&self, partition: Partition, earliest: Offset) -> Result<Owned, StoreError> {
        Ok(self.take(TICKS_TOPIC, partition, earliest).await?.for_evaluator())
    }

    async fn symbols(
        &self,
        partition: Partition,
        after: Option<Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolState>, StoreError> {
        let query = || {
            sqlx::query(SYMBOLS)
                .bind(partition.0)
                .bind(after.map_or(String::new(), |symbol| symbol.as_str().to_owned()))
                .bind(limit)
        };
        self.rows(query).await?.iter().map(symbol_state).collect()
    }

    async fn watches(
        &self,
        partition: Partition,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<(Watch, WatchState)>, StoreError> {
        let after = signed(after.map_or(0, |id| id.0));
        let rows = self.rows(|| sqlx::query(WATCHES).bind(partition.0).bind(after).bind(limit));
        let row = |row| Ok((watch(row, 0)?, state(row, WATCH_COLUMNS)?));
        rows.await?.iter().map(row).collect()
    }

    async fn changes(
        &self,
        partition: Partition,
        limit: u32,
    ) -> Result<Vec<PendingChange>, StoreError> {
        // Noted before the read: what commits meanwhile wakes `changed` once too often at most.
        let noted = *self.inner.changes.borrow();
        let rows = self.rows(|| sqlx::query(CHANGES).bind(partition.0).bind(limit)).await?;
        if u32::try_from(rows.len()).is_ok_and(|found| found < limit) {
            self.changes_read().insert(partition, noted);
        }
        rows.iter().map(pending_change).collect()
    }

    async fn changed(&self, partition: Partition) {
        let mut changes = self.inner.changes.subscribe();
        let read = self.changes_read().get(&partition).copied().unwrap_or(0);
        // The sender lives as long as `self`, so waiting for it cannot fail.
        while *changes.borrow_and_update() == read {
            tokio::select! {
                _ = changes.changed() => {}
                // Another process may have written, or another owner have read what was new.
                () = self.inner.clock.sleep(FOREIGN_POLL) => {
                    // A failure is for the reader of the changes to report.
                    let found = self.rows(|| sqlx::query(HAS_CHANGES).bind(partition.0)).await;
                    if found.is_ok_and(|rows| rows.is_empty()) {
                        continue;
                    }
                    return;
                }
            }
        }
    }

    async fn commit(
        &self,
        fence: Fence,
        span: Span,
        evaluation: &Evaluation,
    ) -> Result<(), StoreError> {
        self.attempts(|_| evaluation::commit(self, fence, span, evaluation)).await
    }

    async fn alerts_after(
        &self,
        partition: Partition,
        after: AlertSeq,
        limit: u32,
    ) -> Result<Vec<NumberedAlert>, StoreError> {
        let after = signed(after.0);
        let query = || sqlx::query(ALERTS_AFTER).bind(partition.0).bind(after).bind(limit);
        self.rows(query).await?.iter().map(numbered_alert).collect()
    }
}

impl MysqlStore {
    /// The rows of a statement that only reads.
    pub(super) async fn rows(
        &self,
        query: impl Fn() -> super::bulk::Bound + Send + Sync,
    ) -> Result<Vec<sqlx::mysql::MySqlRow>, StoreError> {
        let query = &query;
        self.attempts(|_| async move {
            let mut connection = self.read().await?;
            let rows = query().fetch_all(&mut *connection).await?;
            connection.give_back();
            Ok::<_, Failure>(rows)
        })
        .await
    }

    /// The same for a statement that finds one row at most.
    pub(super) async fn row(
        &self,
        query: impl Fn() -> super::bulk::Bound + Send + Sync,
    ) -> Result<Option<sqlx::mysql::MySqlRow>, StoreError> {
        Ok(self.rows(query).await?.pop())
    }
}
