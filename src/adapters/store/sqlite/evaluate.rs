//! What the evaluator reads: partitions, symbols, watches, changes, alerts to publish.
//!
//! What it commits is in [`super::evaluation`].

use std::sync::atomic::Ordering;

use super::evaluation;
use super::rows::{
    WATCH_COLUMNS, alert_columns, numbered_alert, pending_change, signed, state, state_columns,
    symbol_state, watch, watch_columns,
};
use super::{FOREIGN_POLL, SqliteStore};
use crate::adapters::store::TICKS_TOPIC;
use crate::model::{AlertSeq, Offset, Partition, Symbol, Watch, WatchId, WatchState};
use crate::pipeline::evaluate::{
    EvaluateStore, Evaluation, NumberedAlert, Owned, PendingChange, SymbolState,
};
use crate::pipeline::store::{Fence, Span, StoreError};
use async_trait::async_trait;

#[async_trait]
impl EvaluateStore for SqliteStore {
    async fn own(&self, partition: Partition, earliest: Offset) -> Result<Owned, StoreError> {
        Ok(self.take(TICKS_TOPIC, partition, earliest).await?.for_evaluator())
    }

    async fn symbols(
        &self,
        partition: Partition,
        after: Option<Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolState>, StoreError> {
        let rows = sqlx::query(
            "SELECT symbol, last_ms, last_price, currency, market, prices FROM symbol_states \
             WHERE partition = ? AND symbol > ? ORDER BY symbol LIMIT ?",
        )
        .bind(partition.0)
        .bind(after.as_ref().map_or("", Symbol::as_str))
        .bind(limit)
        .fetch_all(&mut *self.read().await?)
        .await?;
        rows.iter().map(symbol_state).collect()
    }

    async fn watches(
        &self,
        partition: Partition,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<(Watch, WatchState)>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            watch_columns!(),
            ", ",
            state_columns!(),
            " FROM watches w LEFT JOIN watch_states s ON s.watch_id = w.id \
             WHERE w.partition = ? AND w.id > ? ORDER BY w.id LIMIT ?",
        ))
        .bind(partition.0)
        .bind(signed(after.map_or(0, |id| id.0)))
        .bind(limit)
        .fetch_all(&mut *self.read().await?)
        .await?;
        rows.iter().map(|row| Ok((watch(row, 0)?, state(row, WATCH_COLUMNS)?))).collect()
    }

    async fn changes(
        &self,
        partition: Partition,
        limit: u32,
    ) -> Result<Vec<PendingChange>, StoreError> {
        // Noted before the read: what commits meanwhile wakes `changed` once too often at most.
        let noted = *self.inner.changes.borrow();
        let rows = sqlx::query(concat!(
            "SELECT ",
            watch_columns!(),
            ", ",
            state_columns!(),
            ", c.id, c.symbol, c.watch_id FROM changes c \
             LEFT JOIN watches w ON w.id = c.watch_id AND w.symbol = c.symbol \
             LEFT JOIN watch_states s ON s.watch_id = w.id \
             WHERE c.partition = ? ORDER BY c.id LIMIT ?",
        ))
        .bind(partition.0)
        .bind(limit)
        .fetch_all(&mut *self.read().await?)
        .await?;
        let complete = u32::try_from(rows.len()).is_ok_and(|found| found < limit);
        if complete && let Some(read) = self.changes_read(partition) {
            read.store(noted, Ordering::Relaxed);
        }
        rows.iter().map(pending_change).collect()
    }

    async fn changed(&self, partition: Partition) {
        let mut changes = self.inner.changes.subscribe();
        let read = self.changes_read(partition).map_or(0, |read| read.load(Ordering::Relaxed));
        // The sender lives as long as `self`, so waiting for it cannot fail.
        while *changes.borrow_and_update() == read {
            tokio::select! {
                _ = changes.changed() => {}
                // Another process may have written, or another owner have read what was new.
                () = self.inner.clock.sleep(FOREIGN_POLL) => {
                    // A failure is for the reader of the changes to report.
                    if self.has_changes(partition).await.unwrap_or(true) {
                        return;
                    }
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
        evaluation::commit(self, fence, span, evaluation).await
    }

    async fn alerts_after(
        &self,
        partition: Partition,
        after: AlertSeq,
        limit: u32,
    ) -> Result<Vec<NumberedAlert>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT a.seq, a.accepted_ms, ",
            alert_columns!(),
            " FROM alerts a WHERE a.partition = ? AND a.seq > ? ORDER BY a.seq LIMIT ?",
        ))
        .bind(partition.0)
        .bind(signed(after.0))
        .bind(limit)
        .fetch_all(&mut *self.read().await?)
        .await?;
        rows.iter().map(numbered_alert).collect()
    }
}

impl SqliteStore {
    async fn has_changes(&self, partition: Partition) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM changes WHERE partition = ?)")
            .bind(partition.0)
            .fetch_one(&mut *self.read().await?)
            .await?;
        Ok(found)
    }
}
