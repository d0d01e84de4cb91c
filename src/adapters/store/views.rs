//! What the server's ports return, out of rows of either database.

use bytes::Bytes;

use super::rows::{self, ALERT_COLUMNS, Cells, STATE_COLUMNS, WATCH_COLUMNS};
use crate::model::{Email, Offset, Partition, Symbol, Timestamp, UserId};
use crate::pipeline::store::{DeadRecord, StoreError};
use crate::server::store::{
    Account, AlertView, DeadLetter, DeliveryState, Quote, Recorded, RequestKey, Role, Session,
    WatchView,
};

/// The columns id, email, role, password_hash of `users`.
pub(super) fn account(row: &impl Cells) -> Result<Account, StoreError> {
    Ok(Account {
        user: UserId(rows::small(row, 0)?),
        email: rows::parsed(row, 1)?,
        role: role(row, 2)?,
        password_hash: row.text(3)?.map(str::to_owned),
    })
}

/// The columns id, email, role of `users` and expires_ms of `sessions`.
pub(super) fn session(row: &impl Cells) -> Result<Session, StoreError> {
    Ok(Session {
        user: UserId(rows::small(row, 0)?),
        email: rows::parsed(row, 1)?,
        role: role(row, 2)?,
        expires: rows::time(row, 3)?,
    })
}

/// The columns fingerprint, reply of `requests`.
pub(super) fn recorded(row: &impl Cells, key: &RequestKey) -> Result<Recorded, StoreError> {
    let fingerprint = rows::bytes(row, 0)?.try_into();
    let reply = serde_json::from_str(rows::text(row, 1)?);
    match (fingerprint, reply) {
        (Ok(fingerprint), Ok(reply)) => {
            Ok(Recorded { fingerprint, reply, again: true, view: None })
        }
        _ => Err(StoreError::Permanent(format!(
            "the record of request {} is damaged: restore the store from a backup",
            key.id
        ))),
    }
}

/// A watch, its state, and the columns last_ms, last_price, currency, market of its symbol.
pub(super) fn view(row: &impl Cells) -> Result<WatchView, StoreError> {
    let watch = rows::watch(row, 0)?;
    let state = rows::state(row, WATCH_COLUMNS)?.carried_to(&watch);
    let last = last_quote(row, WATCH_COLUMNS + STATE_COLUMNS, watch.spec.symbol())?;
    Ok(WatchView { watch, state, last })
}

/// The columns time, price, currency, market of a symbol's last tick, if there is one.
pub(super) fn last_quote(
    row: &impl Cells,
    at: usize,
    symbol: Symbol,
) -> Result<Option<Quote>, StoreError> {
    match row.int(at)? {
        None => Ok(None),
        Some(_) => {
            Ok(Some(Quote { market: rows::market(row, at + 3)?, ..quote(row, at, symbol)? }))
        }
    }
}

/// The columns time, price, currency.
pub(super) fn quote(row: &impl Cells, at: usize, symbol: Symbol) -> Result<Quote, StoreError> {
    Ok(Quote {
        symbol,
        time: rows::time(row, at)?,
        price: rows::price(row, at + 1)?,
        currency: rows::currency(row, at + 2)?,
        market: None,
    })
}

/// The state of a delivery, which is missing until the notifier has met its alert in the log.
pub(super) fn delivery_state(row: &impl Cells, at: usize) -> Result<DeliveryState, StoreError> {
    match row.text(at)? {
        None | Some("pending" | "claimed") => Ok(DeliveryState::Pending),
        Some("delivered") => Ok(DeliveryState::Delivered),
        Some("dead") => Ok(DeliveryState::Dead),
        Some("cancelled") => Ok(DeliveryState::Cancelled),
        Some(found) => Err(StoreError::Permanent(format!(
            "a row holds no valid state of a delivery, found {found:?}; the database was \
             edited or damaged: restore it from a backup"
        ))),
    }
}

/// An alert, and the columns id of `alerts` and state of `deliveries`.
pub(super) fn alert_view(row: &impl Cells) -> Result<AlertView, StoreError> {
    Ok(AlertView {
        cursor: rows::number(row, ALERT_COLUMNS)?,
        alert: rows::alert(row, 0)?,
        delivery: delivery_state(row, ALERT_COLUMNS + 1)?,
    })
}

/// When a letter became one.
pub(super) fn time(letter: &DeadLetter) -> Timestamp {
    match letter {
        DeadLetter::Delivery { time, .. } | DeadLetter::Record { time, .. } => *time,
    }
}

/// An alert, and the columns alert_id, email, attempts, reason, changed_ms of its delivery.
pub(super) fn dead_delivery(row: &impl Cells) -> Result<DeadLetter, StoreError> {
    let at = ALERT_COLUMNS;
    let alert = rows::alert(row, 0)?;
    let email = match row.text(at + 1)? {
        Some(_) => rows::parsed(row, at + 1)?,
        None => deleted(alert.user)?,
    };
    Ok(DeadLetter::Delivery {
        id: rows::number(row, at)?,
        alert,
        email,
        attempts: rows::small(row, at + 2)?,
        reason: row.text(at + 3)?.unwrap_or_default().to_owned(),
        time: rows::time(row, at + 4)?,
    })
}

/// What stands for the address of a deleted account, which is not kept: `.invalid` is reserved
/// (RFC 2606), so it can't be anybody's.
fn deleted(user: UserId) -> Result<Email, StoreError> {
    let text = format!("user-{user}@deleted.invalid");
    text.parse().map_err(|error| StoreError::Permanent(format!("{error}")))
}

/// The columns id, topic, partition, offset, reason, key, value, set_aside_ms.
pub(super) fn dead_record(row: &impl Cells) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter::Record {
        id: rows::number(row, 0)?,
        record: DeadRecord {
            topic: rows::text(row, 1)?.to_owned(),
            partition: Partition(rows::small(row, 2)?),
            offset: Offset(rows::number(row, 3)?),
            reason: rows::text(row, 4)?.to_owned(),
            key: row.bytes(5)?.map(Bytes::copy_from_slice),
            value: Bytes::copy_from_slice(rows::bytes(row, 6)?),
        },
        time: rows::time(row, 7)?,
    })
}

/// Each role may do what those below it may.
pub(super) fn rank(role: Role) -> u8 {
    match role {
        Role::User => 0,
        Role::Feeder => 1,
        Role::Operator => 2,
    }
}

/// A role in its column.
pub(super) fn role(row: &impl Cells, at: usize) -> Result<Role, StoreError> {
    match rows::text(row, at)? {
        "user" => Ok(Role::User),
        "feeder" => Ok(Role::Feeder),
        "operator" => Ok(Role::Operator),
        found => Err(StoreError::Permanent(format!(
            "a row holds no valid role: expected user, feeder or operator, found {found:?}; \
             the database was edited or damaged: restore it from a backup"
        ))),
    }
}

/// A role's word in its column.
pub(super) fn role_text(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Feeder => "feeder",
        Role::Operator => "operator",
    }
}
