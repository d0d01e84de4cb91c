//! How the domain's values stand in rows, and back: what was written through types is read
//! with suspicion, because a file can be damaged or edited.

use std::str::FromStr;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::model::{
    Alert, AlertId, Condition, Currency, Decimal, Policy, PolicyKind, Price, Symbol, Timestamp,
    Told, UserId, Version, Watch, WatchId, WatchSpec, WatchState,
};
use crate::pipeline::store::StoreError;

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
        "a.watch_id, a.version, a.time_ms, a.condition, a.user_id, a.symbol, a.price, a.threshold"
    };
}
/// How many they are.
pub(super) const ALERT_COLUMNS: usize = 8;

pub(super) use {alert_columns, state_columns, watch_columns};

/// The watch in the [`WATCH_COLUMNS`] columns from `at` on.
pub(super) fn watch(row: &SqliteRow, at: usize) -> Result<Watch, StoreError> {
    let kind: PolicyKind = parsed(row, at + 9)?;
    let policy = match kind {
        PolicyKind::Crossing => Policy::Crossing {
            hysteresis: Decimal::from_units(row.try_get(at + 11)?)
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
        user: UserId(row.try_get(at + 1)?),
        version: Version(row.try_get(at + 2)?),
        fresh_since: Version(row.try_get(at + 3)?),
        cooldown_since: Version(row.try_get(at + 4)?),
        paused: row.try_get(at + 5)?,
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
pub(super) fn state(row: &SqliteRow, at: usize) -> Result<WatchState, StoreError> {
    let Some(version) = row.try_get::<Option<u32>, _>(at)? else {
        return Ok(WatchState::default());
    };
    let told = match row.try_get::<Option<&str>, _>(at + 1)? {
        None => Told::Nothing,
        Some(text) => Told::Told {
            condition: text.parse().map_err(|()| not_valid(row, at + 1))?,
            bucket: row.try_get(at + 2)?,
        },
    };
    let last_alert = match row.try_get::<Option<i64>, _>(at + 3)? {
        None => None,
        Some(_) => Some(time(row, at + 3)?),
    };
    Ok(WatchState { version: Version(version), told, last_alert })
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
pub(super) fn alert(row: &SqliteRow, at: usize) -> Result<Alert, StoreError> {
    let condition: Condition = parsed(row, at + 3)?;
    Ok(Alert {
        id: AlertId {
            watch: WatchId(number(row, at)?),
            version: Version(row.try_get(at + 1)?),
            time: time(row, at + 2)?,
            condition,
        },
        user: UserId(row.try_get(at + 4)?),
        symbol: parsed::<Symbol>(row, at + 5)?,
        price: price(row, at + 6)?,
        threshold: price(row, at + 7)?,
    })
}

/// A value that is kept as text.
pub(super) fn parsed<T: FromStr>(row: &SqliteRow, at: usize) -> Result<T, StoreError> {
    row.try_get::<&str, _>(at)?.parse().map_err(|_| not_valid(row, at))
}

/// A currency, or that none is pinned.
pub(super) fn currency(row: &SqliteRow, at: usize) -> Result<Option<Currency>, StoreError> {
    match row.try_get::<Option<&str>, _>(at)? {
        None => Ok(None),
        Some(_) => parsed(row, at).map(Some),
    }
}

/// A price.
pub(super) fn price(row: &SqliteRow, at: usize) -> Result<Price, StoreError> {
    Price::from_units(row.try_get(at)?).ok_or_else(|| not_valid(row, at))
}

/// A price, or none.
pub(super) fn optional_price(row: &SqliteRow, at: usize) -> Result<Option<Price>, StoreError> {
    match row.try_get::<Option<i64>, _>(at)? {
        None => Ok(None),
        Some(_) => price(row, at).map(Some),
    }
}

/// An instant.
pub(super) fn time(row: &SqliteRow, at: usize) -> Result<Timestamp, StoreError> {
    Timestamp::from_millis(row.try_get(at)?).ok_or_else(|| not_valid(row, at))
}

/// A number that is never negative.
pub(super) fn number(row: &SqliteRow, at: usize) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(at)?).map_err(|_| not_valid(row, at))
}

/// A number as SQLite keeps it. None of ours reaches the bound.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn not_valid(row: &SqliteRow, at: usize) -> StoreError {
    use sqlx::Column;
    let column = row.columns().get(at).map_or("?", |column| column.name());
    StoreError::Permanent(format!(
        "a row holds no valid {column}; its file was edited or damaged: restore it from a backup"
    ))
}
