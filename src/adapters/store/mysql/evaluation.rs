//! One step of the evaluator, committed: the product's hot path.
//!
//! Rows go in by the hundred and in the order of their keys.

use std::collections::{HashMap, HashSet};

use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, padded};
use super::{Failure, MysqlStore, now_ms, progress};
use crate::adapters::store::rows::{int, signed, told_columns};
use crate::adapters::store::step::Advance;
use crate::model::{MarketState, Partition, Timestamp, WatchId, WatchState};
use crate::pipeline::evaluate::{Applied, Evaluation, NumberedAlert, PricePoint, SymbolState};
use crate::pipeline::store::{Fence, Span};

/// One attempt. After another whose end is unknown it finds the partition moved on, if that one
/// has committed.
pub(super) async fn commit(
    store: &MysqlStore,
    fence: Fence,
    span: Span,
    step: &Evaluation,
) -> Result<(), Failure> {
    let mut tx = store.begin().await?;
    let advance = Advance::evaluated(fence, span, step);
    if !progress::advance(&mut tx, &advance).await? {
        return tx.roll_back().await;
    }
    insert_alerts(&mut tx, fence.partition, &step.alerts).await?;
    put_states(&mut tx, &step.states).await?;
    put_symbols(&mut tx, fence.partition, &step.symbols).await?;
    put_prices(&mut tx, store.inner.options.prices_per_symbol, &step.prices).await?;
    record_applied(&mut tx, &step.applied).await?;
    progress::set_aside(&mut tx, &step.dead).await?;
    tx.commit().await
}

/// An alert whose identity exists is left out. One whose number is taken by another is a
/// contradiction: its number would become NULL, which fails the step.
async fn insert_alerts(
    tx: &mut MySqlConnection,
    partition: Partition,
    alerts: &[NumberedAlert],
) -> Result<(), Failure> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO alerts (`partition`, seq, watch_id, version, time_ms, `condition`, \
               user_id, symbol, price, threshold, accepted_ms, made_ms) VALUES",
        row: concat!("(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ", now_ms!(), ")"),
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE seq = IF(watch_id = VALUES(watch_id) \
               AND time_ms = VALUES(time_ms) AND version = VALUES(version) \
               AND `condition` = VALUES(`condition`), seq, NULL)",
    };
    for piece in padded(alerts) {
        let mut insert = INSERT.of(piece.len());
        for NumberedAlert { seq, alert, accepted } in piece {
            insert = insert
                .bind(partition.0)
                .bind(signed(seq.0))
                .bind(signed(alert.id.watch.0))
                .bind(alert.id.version.0)
                .bind(alert.id.time.millis())
                .bind(alert.id.condition.as_str())
                .bind(alert.user.0)
                .bind(alert.symbol.as_str().to_owned())
                .bind(alert.price.units())
                .bind(alert.threshold.units())
                .bind(accepted.millis());
        }
        insert.execute(&mut *tx).await?;
    }
    Ok(())
}

/// A watch may have gone to another partition's symbol or be deleted: its state is then written
/// by another, or by nobody. Nothing is locked to find that out, or each step would wait for every
/// command under way on one of its watches, and those on the others for the step. A deletion that
/// commits between this look and the row leaves a state behind, but never for good: as long as
/// the engine has the watch, its removal is pending, and applying it forgets the state
/// ([`record_applied`]).
async fn put_states(
    tx: &mut MySqlConnection,
    states: &[(WatchId, WatchState)],
) -> Result<(), Failure> {
    const EXISTING: Bulk =
        Bulk { head: "SELECT id FROM watches WHERE id IN (", row: "?", between: ",", tail: ")" };
    // The version last: what stands before it compares with the old one.
    const UPSERT: Bulk = Bulk {
        head: "INSERT INTO watch_states (watch_id, version, told, bucket, last_alert_ms) VALUES",
        row: "(?, ?, ?, ?, ?)",
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE \
               told = IF(VALUES(version) >= version, VALUES(told), told), \
               bucket = IF(VALUES(version) >= version, VALUES(bucket), bucket), \
               last_alert_ms = IF(VALUES(version) >= version, VALUES(last_alert_ms), \
               last_alert_ms), \
               version = GREATEST(version, VALUES(version))",
    };
    let mut states: Vec<_> = states.iter().collect();
    states.sort_unstable_by_key(|(watch, _)| *watch);
    for states in states.chunks(512) {
        let mut existing = HashSet::new();
        for piece in padded(states) {
            let query = EXISTING.of(piece.len());
            let query = piece.iter().fold(query, |query, (id, _)| query.bind(signed(id.0)));
            for row in query.fetch_all(&mut *tx).await? {
                existing.insert(int(&row, 0)?);
            }
        }
        let states: Vec<_> =
            states.iter().filter(|(id, _)| existing.contains(&signed(id.0))).collect();
        for piece in padded(&states) {
            let mut upsert = UPSERT.of(piece.len());
            for (watch, state) in piece {
                let (told, bucket, last_alert_ms) = told_columns(state);
                upsert = upsert
                    .bind(signed(watch.0))
                    .bind(state.version.0)
                    .bind(told)
                    .bind(bucket)
                    .bind(last_alert_ms);
            }
            upsert.execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// A symbol's partition changes only with the number of partitions.
async fn put_symbols(
    tx: &mut MySqlConnection,
    partition: Partition,
    symbols: &[SymbolState],
) -> Result<(), Failure> {
    const UPSERT: Bulk = Bulk {
        head: "INSERT INTO symbol_states \
               (symbol, `partition`, last_ms, last_price, currency, market, prices) VALUES",
        row: "(?, ?, ?, ?, ?, ?, ?)",
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE last_ms = VALUES(last_ms), \
               last_price = VALUES(last_price), currency = VALUES(currency), \
               market = VALUES(market), prices = VALUES(prices)",
    };
    let mut symbols: Vec<_> = symbols.iter().collect();
    symbols.sort_unstable_by_key(|state| state.symbol);
    for piece in padded(&symbols) {
        let mut upsert = UPSERT.of(piece.len());
        for state in piece {
            upsert = upsert
                .bind(state.symbol.as_str().to_owned())
                .bind(partition.0)
                .bind(state.last.map(|last| last.time.millis()))
                .bind(state.last.map(|last| last.price.units()))
                .bind(state.currency.map(|currency| currency.as_str().to_owned()))
                .bind(state.market.map(MarketState::as_str))
                .bind(signed(state.prices));
        }
        upsert.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn put_prices(
    tx: &mut MySqlConnection,
    kept: u32,
    prices: &[PricePoint],
) -> Result<(), Failure> {
    const UPSERT: Bulk = Bulk {
        head: "INSERT INTO prices (symbol, slot, number, time_ms, price) VALUES",
        row: "(?, ?, ?, ?, ?)",
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE number = VALUES(number), time_ms = VALUES(time_ms), \
               price = VALUES(price)",
    };
    let mut prices: Vec<_> = prices.iter().collect();
    prices.sort_unstable_by_key(|price| (price.symbol, price.number));
    for piece in padded(&prices) {
        let mut upsert = UPSERT.of(piece.len());
        for price in piece {
            upsert = upsert
                .bind(price.symbol.as_str().to_owned())
                .bind(signed(price.number % u64::from(kept.max(1))))
                .bind(signed(price.number))
                .bind(price.time.millis())
                .bind(price.price.units());
        }
        upsert.execute(&mut *tx).await?;
    }
    Ok(())
}

/// Takes the changes off the list, with the states of those watches that are deleted: after the
/// states of this step are in, so that none of a deleted watch is left.
async fn record_applied(tx: &mut MySqlConnection, applied: &[Applied]) -> Result<(), Failure> {
    const WHICH: Bulk = Bulk {
        head: "SELECT c.id, c.watch_id, w.id FROM changes c \
               LEFT JOIN watches w ON w.id = c.watch_id WHERE c.id IN (",
        row: "?",
        between: ",",
        tail: ")",
    };
    const FORGET: Bulk = Bulk {
        head: "DELETE FROM watch_states WHERE watch_id IN (",
        row: "?",
        between: ",",
        tail: ")",
    };
    const RECORD: Bulk = Bulk {
        head: "INSERT INTO applied_changes \
               (id, symbol, watch_id, version, after_ms, applied_ms) VALUES",
        row: concat!("(?, ?, ?, ?, ?, ", now_ms!(), ")"),
        between: ",",
        tail: "ON DUPLICATE KEY UPDATE id = id",
    };
    // In order, and no more than these, so that the server ends with the last of them where it scans
    // a short list. It would wait for every command under way that has left its change there.
    const REMOVE: Bulk = Bulk {
        head: "DELETE FROM changes WHERE id IN (",
        row: "?",
        between: ",",
        tail: ") ORDER BY id LIMIT ?",
    };
    let ids = |list: &Bulk, piece: &[&Applied]| {
        piece.iter().fold(list.of(piece.len()), |query, change| query.bind(signed(change.id.0)))
    };
    // Of a removal, only the change knows the watch. One that was there when its change was read
    // and is deleted since has another change pending.
    let removals: Vec<_> = applied.iter().filter(|change| change.watch.is_none()).collect();
    let (mut watches, mut gone) = (HashMap::new(), Vec::new());
    for piece in padded(&removals) {
        let piece: Vec<_> = piece.into_iter().copied().collect();
        for row in ids(&WHICH, &piece).fetch_all(&mut *tx).await? {
            use crate::adapters::store::rows::Cells;
            let (watch, existing) = (row.int(1)?, row.int(2)?);
            watches.insert(int(&row, 0)?, watch);
            gone.extend(watch.filter(|_| existing.is_none()));
        }
    }
    for gone in padded(&gone) {
        let forget = FORGET.of(gone.len());
        let forget = gone.into_iter().fold(forget, |query, watch| query.bind(*watch));
        forget.execute(&mut *tx).await?;
    }
    for piece in padded(applied) {
        let mut record = RECORD.of(piece.len());
        for change in &piece {
            let id = signed(change.id.0);
            record = record
                .bind(id)
                .bind(change.symbol.as_str().to_owned())
                .bind(match change.watch {
                    Some((watch, _)) => Some(signed(watch.0)),
                    None => watches.get(&id).copied().flatten(),
                })
                .bind(change.watch.map(|(_, version)| version.0))
                .bind(change.after.map(Timestamp::millis));
        }
        record.execute(&mut *tx).await?;
        let distinct = piece.iter().map(|change| change.id).collect::<HashSet<_>>().len();
        let distinct = u32::try_from(distinct).unwrap_or(u32::MAX);
        ids(&REMOVE, &piece).bind(distinct).execute(&mut *tx).await?;
    }
    Ok(())
}
