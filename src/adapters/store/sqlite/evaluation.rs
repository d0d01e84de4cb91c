//! One step of the evaluator, committed: the product's hot path.
//!
//! Rows go in by the hundred and in the order of their keys, so that each page of the file is
//! touched once a commit.

use super::bulk::Bulk;
use super::rows::{signed, told_columns};
use super::{SqliteStore, Write, progress};
use crate::adapters::store::step::Advance;
use crate::model::{MarketState, Partition, Timestamp, WatchId, WatchState};
use crate::pipeline::evaluate::{Applied, Evaluation, NumberedAlert, PricePoint, SymbolState};
use crate::pipeline::store::{Fence, Span, StoreError};

pub(super) async fn commit(
    store: &SqliteStore,
    fence: Fence,
    span: Span,
    step: &Evaluation,
) -> Result<(), StoreError> {
    let (now, partition) = (store.inner.clock.now(), fence.partition);
    let mut tx = store.write().await?;
    let advance = Advance::evaluated(fence, span, step);
    if !progress::advance(&mut tx, &advance).await? {
        return Ok(());
    }
    insert_alerts(&mut tx, partition, &step.alerts, now).await?;
    put_states(&mut tx, &step.states).await?;
    put_symbols(&mut tx, partition, &step.symbols).await?;
    put_prices(&mut tx, store.inner.options.prices_per_symbol, &step.prices).await?;
    record_applied(&mut tx, &step.applied, now).await?;
    progress::set_aside(&mut tx, &step.dead, now).await?;
    Ok(tx.commit().await?)
}

/// An alert whose identity exists is left out. One whose number is taken by another is a
/// contradiction, and fails the step.
async fn insert_alerts(
    tx: &mut Write,
    partition: Partition,
    alerts: &[NumberedAlert],
    now: Timestamp,
) -> Result<(), StoreError> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO alerts (partition, seq, watch_id, version, time_ms, condition, \
               user_id, symbol, price, threshold, accepted_ms, made_ms) VALUES",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (watch_id, time_ms, version, condition) DO NOTHING",
    };
    INSERT
        .execute(tx, alerts, |query, NumberedAlert { seq, alert, accepted }| {
            query
                .bind(partition.0)
                .bind(signed(seq.0))
                .bind(signed(alert.id.watch.0))
                .bind(alert.id.version.0)
                .bind(alert.id.time.millis())
                .bind(alert.id.condition.as_str())
                .bind(alert.user.0)
                .bind(alert.symbol.as_str())
                .bind(alert.price.units())
                .bind(alert.threshold.units())
                .bind(accepted.millis())
                .bind(now.millis())
        })
        .await
}

/// A watch may have gone to another partition's symbol or be deleted: its state is then written
/// by another, or by nobody.
async fn put_states(tx: &mut Write, states: &[(WatchId, WatchState)]) -> Result<(), StoreError> {
    const UPSERT: Bulk = Bulk {
        head: "WITH new (id, version, told, bucket, last_alert_ms) AS (VALUES",
        row: "(?, ?, ?, ?, ?)",
        tail: ") INSERT INTO watch_states (watch_id, version, told, bucket, last_alert_ms) \
               SELECT id, version, told, bucket, last_alert_ms FROM new \
               WHERE EXISTS (SELECT 1 FROM watches w WHERE w.id = new.id) \
               ON CONFLICT (watch_id) DO UPDATE SET version = excluded.version, \
               told = excluded.told, bucket = excluded.bucket, \
               last_alert_ms = excluded.last_alert_ms \
               WHERE excluded.version >= watch_states.version",
    };
    let mut states: Vec<_> = states.iter().collect();
    states.sort_unstable_by_key(|(watch, _)| *watch);
    UPSERT
        .execute(tx, &states, |query, (watch, state)| {
            let (told, bucket, last_alert_ms) = told_columns(state);
            query
                .bind(signed(watch.0))
                .bind(state.version.0)
                .bind(told)
                .bind(bucket)
                .bind(last_alert_ms)
        })
        .await
}

/// A symbol's partition never changes, and leaving it alone on conflict spares its index.
async fn put_symbols(
    tx: &mut Write,
    partition: Partition,
    symbols: &[SymbolState],
) -> Result<(), StoreError> {
    const UPSERT: Bulk = Bulk {
        head: "INSERT INTO symbol_states \
               (symbol, partition, last_ms, last_price, currency, market, prices) VALUES",
        row: "(?, ?, ?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (symbol) DO UPDATE SET last_ms = excluded.last_ms, \
               last_price = excluded.last_price, currency = excluded.currency, \
               market = excluded.market, prices = excluded.prices",
    };
    let mut symbols: Vec<_> = symbols.iter().collect();
    symbols.sort_unstable_by_key(|state| state.symbol);
    UPSERT
        .execute(tx, &symbols, |query, state| {
            query
                .bind(state.symbol.as_str())
                .bind(partition.0)
                .bind(state.last.map(|last| last.time.millis()))
                .bind(state.last.map(|last| last.price.units()))
                .bind(state.currency.as_ref().map(|currency| currency.as_str()))
                .bind(state.market.map(MarketState::as_str))
                .bind(signed(state.prices))
        })
        .await
}

async fn put_prices(tx: &mut Write, kept: u32, prices: &[PricePoint]) -> Result<(), StoreError> {
    const UPSERT: Bulk = Bulk {
        head: "INSERT INTO prices (symbol, slot, number, time_ms, price) VALUES",
        row: "(?, ?, ?, ?, ?)",
        tail: "ON CONFLICT (symbol, slot) DO UPDATE SET number = excluded.number, \
               time_ms = excluded.time_ms, price = excluded.price",
    };
    let mut prices: Vec<_> = prices.iter().collect();
    prices.sort_unstable_by_key(|price| (price.symbol, price.number));
    UPSERT
        .execute(tx, &prices, |query, price| {
            query
                .bind(price.symbol.as_str())
                .bind(signed(price.number % u64::from(kept.max(1))))
                .bind(signed(price.number))
                .bind(price.time.millis())
                .bind(price.price.units())
        })
        .await
}

/// Takes the changes off the list, with the states of those watches that are deleted: commands
/// never touch states.
async fn record_applied(
    tx: &mut Write,
    applied: &[Applied],
    now: Timestamp,
) -> Result<(), StoreError> {
    const FORGET: Bulk = Bulk {
        head: "DELETE FROM watch_states WHERE watch_id IN (SELECT c.watch_id FROM changes c \
               WHERE NOT EXISTS (SELECT 1 FROM watches w WHERE w.id = c.watch_id) \
               AND c.id IN (",
        row: "?",
        tail: "))",
    };
    const REMOVE: Bulk = Bulk { head: "DELETE FROM changes WHERE id IN (", row: "?", tail: ")" };
    const RECORD: Bulk = Bulk {
        head: "INSERT INTO applied_changes \
               (id, symbol, watch_id, version, after_ms, applied_ms) VALUES",
        row: "(?, ?, (SELECT watch_id FROM changes WHERE id = ?), ?, ?, ?)",
        tail: "ON CONFLICT (id) DO NOTHING",
    };
    let gone: Vec<_> = applied.iter().filter(|change| change.watch.is_none()).collect();
    FORGET.execute(tx, &gone, |query, change| query.bind(signed(change.id.0))).await?;
    // Before the changes go: they know the watch of a removal as well.
    RECORD
        .execute(tx, applied, |query, change| {
            query
                .bind(signed(change.id.0))
                .bind(change.symbol.as_str())
                .bind(signed(change.id.0))
                .bind(change.watch.map(|(_, version)| version.0))
                .bind(change.after.map(Timestamp::millis))
                .bind(now.millis())
        })
        .await?;
    REMOVE.execute(tx, applied, |query, change| query.bind(signed(change.id.0))).await
}
