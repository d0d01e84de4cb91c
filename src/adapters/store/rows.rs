//! How the domain's values stand in rows, and back: what was written through types is read
//! with suspicion, because a file can be damaged or edited.

use std::str::FromStr;

use sqlx::mysql::MySqlRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Row};

use crate::model::{
    Alert, AlertId, Condition, Currency, Decimal, LastTick, MarketState, Policy, PolicyKind, Price,
    Symbol, Timestamp, Told, UserId, Version, Watch, WatchId, WatchSpec, WatchState,
};
use crate::pipeline::evaluate::{ChangeId, ChangeKind, NumberedAlert, PendingChange, SymbolState};
use crate::pipeline::notify::{Delivery, DeliveryId};
use crate::pipeline::store::StoreError;
use crate::trace::TraceParent;

/// A row of either database: whole numbers, text and bytes, or NULL.
pub(super) trait Cells {
    /// A whole number.
    fn int(&self, at: usize) -> Result<Option<i64>, sqlx::Error>;
    /// Text.
    fn text(&self, at: usize) -> Result<Option<&str>, sqlx::Error>;
    /// Bytes.
    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, sqlx::Error>;
    /// A column's name, for messages.
    fn name(&self, at: usize) -> &str;
}

macro_rules! cells {
    ($row:ty) => {
        impl Cells for $row {
            fn int(&self, at: usize) -> Result<Option<i64>, sqlx::Error> {
                self.try_get(at)
            }

            fn text(&self, at: usize) -> Result<Option<&str>, sqlx::Error> {
                self.try_get(at)
            }

            fn bytes(&self, at: usize) -> Result<Option<&[u8]>, sqlx::Error> {
                self.try_get(at)
            }

            fn name(&self, at: usize) -> &str {
                self.columns().get(at).map_or("?", |column| column.name())
            }
        }
    };
}
cells!(SqliteRow);
cells!(MySqlRow);

/// The columns that [`watch`] reads, of `watches w`.
macro_rules! watch_columns {
    () => {
        "w.id, w.user_id, w.version, w.fresh_since, w.cooldown_since, w.paused, w.symbol, \
         w.low, w.high, w.policy, w.step, w.hysteresis, w.cooldown_s"
    };
}
/// How many they are.
pub(super) const WATCH_COLUMNS: usize = 13;

/// The columns that [`state`] reads, of `watch_states s`, which may be missing (LEFT JOIN).
macro_rules! state_columns {
    () => {
        "s.version, s.told, s.bucket, s.last_alert_ms"
    };
}
/// How many they are.
pub(super) const STATE_COLUMNS: usize = 4;

/// The columns that [`alert`] reads, of `alerts a`.
macro_rules! alert_columns {
    () => {
        "a.watch_id, a.version, a.time_ms, a.`condition`, a.user_id, a.symbol, a.price, a.threshold"
    };
}
/// How many they are.
pub(super) const ALERT_COLUMNS: usize = 8;

pub(super) use {alert_columns, state_columns, watch_columns};

/// The watch in the [`WATCH_COLUMNS`] columns from `at` on.
pub(super) fn watch(row: &impl Cells, at: usize) -> Result<Watch, StoreError> {
    let kind: PolicyKind = parsed(row, at + 9)?;
    let policy = match kind {
        PolicyKind::Crossing => Policy::Crossing {
            hysteresis: Decimal::from_units(int(row, at + 11)?)
                .ok_or_else(|| not_valid(row, at + 11))?,
        },
        PolicyKind::Step => Policy::Step { step: price(row, at + 10)? },
        PolicyKind::Once => Policy::Once,
    };
    let spec = WatchSpec::new(
        parsed(row, at + 6)?,
        optional_price(row, at + 7)?,
        optional_price(row, at + 8)?,
        policy,
        number(row, at + 12)?,
    )
    .map_err(|_| not_valid(row, at))?;
    Ok(Watch {
        id: WatchId(number(row, at)?),
        user: UserId(small(row, at + 1)?),
        version: Version(small(row, at + 2)?),
        fresh_since: Version(small(row, at + 3)?),
        cooldown_since: Version(small(row, at + 4)?),
        paused: int(row, at + 5)? != 0,
        spec,
    })
}

/// The values of a policy's columns: name, step, hysteresis.
pub(super) fn policy_columns(policy: Policy) -> (&'static str, Option<i64>, Option<i64>) {
    let name = policy.kind().as_str();
    match policy {
        Policy::Crossing { hysteresis } => (name, None, Some(hysteresis.units())),
        Policy::Step { step } => (name, Some(step.units()), None),
        Policy::Once => (name, None, None),
    }
}

/// The state in the [`STATE_COLUMNS`] columns from `at` on; a missing one is the state of a
/// watch that was never evaluated.
pub(super) fn state(row: &impl Cells, at: usize) -> Result<WatchState, StoreError> {
    if row.int(at)?.is_none() {
        return Ok(WatchState::default());
    }
    let told = match row.text(at + 1)? {
        None => Told::Nothing,
        Some(text) => Told::Told {
            condition: text.parse().map_err(|()| not_valid(row, at + 1))?,
            bucket: int(row, at + 2)?,
        },
    };
    let last_alert = match row.int(at + 3)? {
        None => None,
        Some(_) => Some(time(row, at + 3)?),
    };
    Ok(WatchState { version: Version(small(row, at)?), told, last_alert })
}

/// The values of a state's columns: told, bucket, last_alert_ms.
pub(super) fn told_columns(state: &WatchState) -> (Option<&'static str>, i64, Option<i64>) {
    let last_alert = state.last_alert.map(Timestamp::millis);
    match state.told {
        Told::Nothing => (None, 0, last_alert),
        Told::Told { condition, bucket } => (Some(condition.as_str()), bucket, last_alert),
    }
}

/// The alert in the [`ALERT_COLUMNS`] columns from `at` on.
pub(super) fn alert(row: &impl Cells, at: usize) -> Result<Alert, StoreError> {
    let condition: Condition = parsed(row, at + 3)?;
    Ok(Alert {
        id: AlertId {
            watch: WatchId(number(row, at)?),
            version: Version(small(row, at + 1)?),
            time: time(row, at + 2)?,
            condition,
        },
        user: UserId(small(row, at + 4)?),
        symbol: parsed::<Symbol>(row, at + 5)?,
        price: price(row, at + 6)?,
        threshold: price(row, at + 7)?,
    })
}

/// A value that is kept as text.
pub(super) fn parsed<T: FromStr>(row: &impl Cells, at: usize) -> Result<T, StoreError> {
    text(row, at)?.parse().map_err(|_| not_valid(row, at))
}

/// A currency, or that none is pinned.
pub(super) fn currency(row: &impl Cells, at: usize) -> Result<Option<Currency>, StoreError> {
    match row.text(at)? {
        None => Ok(None),
        Some(_) => parsed(row, at).map(Some),
    }
}

/// The state of a market, or that none was stated.
pub(super) fn market(row: &impl Cells, at: usize) -> Result<Option<MarketState>, StoreError> {
    match row.text(at)? {
        None => Ok(None),
        Some(_) => parsed(row, at).map(Some),
    }
}

/// A price.
pub(super) fn price(row: &impl Cells, at: usize) -> Result<Price, StoreError> {
    Price::from_units(int(row, at)?).ok_or_else(|| not_valid(row, at))
}

/// A price, or none.
pub(super) fn optional_price(row: &impl Cells, at: usize) -> Result<Option<Price>, StoreError> {
    match row.int(at)? {
        None => Ok(None),
        Some(_) => price(row, at).map(Some),
    }
}

/// An instant.
pub(super) fn time(row: &impl Cells, at: usize) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(int(row, at)?).ok_or_else(|| not_valid(row, at))
}

/// Text that is not missing.
pub(super) fn text(row: &impl Cells, at: usize) -> Result<&str, StoreError> {
    row.text(at)?.ok_or_else(|| not_valid(row, at))
}

/// Bytes that are not missing.
pub(super) fn bytes(row: &impl Cells, at: usize) -> Result<&[u8], StoreError> {
    row.bytes(at)?.ok_or_else(|| not_valid(row, at))
}

/// A whole number that is not missing.
pub(super) fn int(row: &impl Cells, at: usize) -> Result<i64, StoreError> {
    row.int(at)?.ok_or_else(|| not_valid(row, at))
}

/// A number that is never negative.
pub(super) fn number(row: &impl Cells, at: usize) -> Result<u64, StoreError> {
    u64::try_from(int(row, at)?).map_err(|_| not_valid(row, at))
}

/// A number that fits in 32 bits: an account, a version, a count.
pub(super) fn small(row: &impl Cells, at: usize) -> Result<u32, StoreError> {
    u32::try_from(int(row, at)?).map_err(|_| not_valid(row, at))
}

/// A number as the databases keep it. None of ours reaches the bound.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A value that no writer of this program has left there.
pub(super) fn not_valid(row: &impl Cells, at: usize) -> StoreError {
    let column = row.name(at);
    StoreError::Permanent(format!(
        "a row holds no valid {column}; the database was edited or damaged: restore it from a \
         backup"
    ))
}

/// The columns symbol, last_ms, last_price, currency, market, prices of `symbol_states`.
pub(super) fn symbol_state(row: &impl Cells) -> Result<SymbolState, StoreError> {
    let last = match optional_price(row, 2)? {
        None => None,
        Some(price) => Some(LastTick { time: time(row, 1)?, price }),
    };
    Ok(SymbolState {
        symbol: parsed(row, 0)?,
        last,
        currency: currency(row, 3)?,
        market: market(row, 4)?,
        prices: number(row, 5)?,
    })
}

/// The watch, its state, and the columns id, symbol, watch_id of `changes`.
pub(super) fn pending_change(row: &impl Cells) -> Result<PendingChange, StoreError> {
    const CHANGE: usize = WATCH_COLUMNS + STATE_COLUMNS;
    let what = match row.int(CHANGE + 2)? {
        None => ChangeKind::Reset,
        Some(_) => ChangeKind::Watch {
            watch: WatchId(number(row, CHANGE + 2)?),
            current: match row.int(0)? {
                None => None,
                Some(_) => Some((watch(row, 0)?, state(row, WATCH_COLUMNS)?)),
            },
        },
    };
    Ok(PendingChange { id: ChangeId(number(row, CHANGE)?), symbol: parsed(row, CHANGE + 1)?, what })
}

/// The columns seq, accepted_ms, and the alert.
pub(super) fn numbered_alert(row: &impl Cells) -> Result<NumberedAlert, StoreError> {
    Ok(NumberedAlert {
        seq: crate::model::AlertSeq(number(row, 0)?),
        accepted: time(row, 1)?,
        alert: alert(row, 2)?,
    })
}

/// The alert, and the columns alert_id, email, attempts, accepted_ms, traceparent.
pub(super) fn delivery(row: &impl Cells) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        alert: alert(row, 0)?,
        id: DeliveryId(number(row, ALERT_COLUMNS)?),
        email: parsed(row, ALERT_COLUMNS + 1)?,
        attempts: small(row, ALERT_COLUMNS + 2)?,
        accepted: time(row, ALERT_COLUMNS + 3)?,
        // What is none is no reason not to tell the alert.
        trace: row.text(ALERT_COLUMNS + 4)?.and_then(|text| TraceParent::parse(text.as_bytes())),
    })
}
