//! The statements on deliveries.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, exact, padded};
use super::failure::is_duplicate;
use super::{Failure, now_ms};
use crate::adapters::store::rows::{
    ALERT_COLUMNS, Cells, alert, alert_columns, delivery, int, parsed, signed, time,
};
use crate::model::{Alert, AlertId, Email, Timestamp};
use crate::pipeline::notify::{Claimant, Delivery, DeliveryId, Incoming};
use crate::trace::TraceParent;

/// What an attempt was about to claim, and until when, for the one after it.
pub(super) struct Noted(pub(super) Mutex<Option<(Vec<i64>, i64)>>);

impl Noted {
    pub(super) fn get(&self) -> Option<(Vec<i64>, i64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, ids: Vec<i64>, until: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((ids, until));
    }
}

/// What the store knows of the alerts of a batch. Users and watches are held until the commit,
/// so that a deletion comes before, or after and cancels what is made here.
const KNOWN: Bulk = Bulk {
    head: concat!(
        "SELECT ",
        alert_columns!(),
        ", a.id, u.email, w.id, d.alert_id, a.accepted_ms FROM alerts a \
         LEFT JOIN users u ON u.id = a.user_id LEFT JOIN watches w ON w.id = a.watch_id \
         LEFT JOIN deliveries d ON d.alert_id = a.id WHERE"
    ),
    row: "(a.watch_id = ? AND a.time_ms = ? AND a.version = ? AND a.`condition` = ?)",
    between: "OR",
    tail: "LOCK IN SHARE MODE",
};

/// An alert that is stored.
struct Known {
    id: i64,
    alert: Alert,
    accepted: Timestamp,
    /// Whom to tell, or what is deleted.
    email: Result<Email, &'static str>,
    delivered: bool,
}

async fn known(
    tx: &mut MySqlConnection,
    incoming: &[Incoming],
) -> Result<HashMap<AlertId, Known>, Failure> {
    let mut found = HashMap::new();
    let ids: Vec<AlertId> = incoming.iter().map(|incoming| incoming.alert.id).collect();
    for piece in padded(&ids) {
        let mut query = KNOWN.of(piece.len());
        for id in piece {
            query = query
                .bind(signed(id.watch.0))
                .bind(id.time.millis())
                .bind(id.version.0)
                .bind(id.condition.as_str());
        }
        for row in query.fetch_all(&mut *tx).await? {
            let email = match (row.text(ALERT_COLUMNS + 1)?, row.int(ALERT_COLUMNS + 2)?) {
                (None, _) => Err("user"),
                (_, None) => Err("watch"),
                _ => Ok(parsed(&row, ALERT_COLUMNS + 1)?),
            };
            let known = Known {
                id: int(&row, ALERT_COLUMNS)?,
                alert: alert(&row, 0)?,
                accepted: time(&row, ALERT_COLUMNS + 4)?,
                email,
                delivered: row.int(ALERT_COLUMNS + 3)?.is_some(),
            };
            found.insert(known.alert.id, known);
        }
    }
    Ok(found)
}

/// The numbers of the alerts of a batch.
pub(super) async fn ids(
    tx: &mut MySqlConnection,
    incoming: &[Incoming],
) -> Result<Vec<i64>, Failure> {
    Ok(known(tx, incoming).await?.into_values().map(|known| known.id).collect())
}

/// Makes the deliveries of those alerts that the store has and that have none. The first
/// `claim_max` of the batch are claimed at once, and returned; the others wait; cancelled where
/// nobody is left to tell.
pub(super) async fn insert(
    tx: &mut MySqlConnection,
    incoming: &[Incoming],
    claimant: &Claimant,
    claim_max: usize,
) -> Result<Vec<Delivery>, Failure> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO deliveries (alert_id, user_id, watch_id, state, due_ms, attempts, \
               owner, lease_until_ms, reason, traceparent, changed_ms) VALUES",
        row: concat!(
            "(?, ?, ?, ?, ",
            now_ms!(),
            ", 0, ?, ",
            now_ms!(),
            " + ?, ?, ?, ",
            now_ms!(),
            ")"
        ),
        between: ",",
        tail: "",
    };
    let known = known(tx, incoming).await?;
    let mut seen = HashSet::new();
    let mut new = Vec::new();
    for (index, Incoming { alert, trace, .. }) in incoming.iter().enumerate() {
        if let Some(known) = known.get(&alert.id)
            && !known.delivered
            && seen.insert(known.id)
        {
            new.push((known, index < claim_max && known.email.is_ok(), *trace));
        }
    }
    new.sort_unstable_by_key(|(known, ..)| known.id);
    for piece in exact(&new) {
        let mut insert = INSERT.of(piece.len());
        for (known, claimed, trace) in piece {
            let state = match (&known.email, claimed) {
                (Err(_), _) => "cancelled",
                (Ok(_), true) => "claimed",
                (Ok(_), false) => "pending",
            };
            insert = insert
                .bind(known.id)
                .bind(known.alert.user.0)
                .bind(signed(known.alert.id.watch.0))
                .bind(state)
                .bind(claimed.then(|| claimant.owner.clone()))
                .bind(claimed.then(|| signed(claimant.lease_ms)))
                .bind(known.email.as_ref().err().copied())
                .bind(trace.map(|trace| trace.to_text()));
        }
        // One that another made since it was looked for is not to be sent by two.
        insert.execute(&mut *tx).await.map_err(|error| match is_duplicate(&error) {
            true => Failure::Again("a delivery was made meanwhile".to_owned()),
            false => error.into(),
        })?;
    }
    let claimed = |(known, claimed, trace): (&Known, bool, Option<TraceParent>)| {
        let email = known.email.as_ref().ok().filter(|_| claimed)?;
        Some(Delivery {
            id: DeliveryId(known.id.cast_unsigned()),
            alert: known.alert,
            email: email.clone(),
            attempts: 0,
            accepted: known.accepted,
            trace,
        })
    };
    Ok(new.into_iter().filter_map(claimed).collect())
}

/// Those of some deliveries that `claimant` has claimed, the longest due first.
pub(super) async fn claimed_by(
    tx: &mut MySqlConnection,
    claimant: &Claimant,
    ids: &[i64],
) -> Result<Vec<Delivery>, Failure> {
    const CLAIMED: Bulk = Bulk {
        head: concat!(
            "SELECT ",
            alert_columns!(),
            ", d.alert_id, u.email, d.attempts, a.accepted_ms, d.traceparent, d.due_ms \
             FROM deliveries d JOIN alerts a ON a.id = d.alert_id \
             JOIN users u ON u.id = d.user_id \
             WHERE d.state = 'claimed' AND d.owner = ? AND d.alert_id IN ("
        ),
        row: "?",
        between: ",",
        tail: ")",
    };
    const DUE_MS: usize = ALERT_COLUMNS + 5;
    let mut claimed = Vec::with_capacity(ids.len());
    for piece in padded(ids) {
        let query = CLAIMED.of(piece.len()).bind(claimant.owner.clone());
        let query = piece.into_iter().fold(query, |query, id| query.bind(*id));
        for row in query.fetch_all(&mut *tx).await? {
            claimed.push((int(&row, DUE_MS)?, delivery(&row)?));
        }
    }
    claimed.sort_by_key(|(due, delivery)| (*due, delivery.id.0));
    Ok(claimed.into_iter().map(|(_, delivery)| delivery).collect())
}

macro_rules! due {
    ($state:literal, $time:literal) => {
        concat!(
            "SELECT d.alert_id, d.due_ms FROM deliveries d WHERE d.state = '",
            $state,
            "' AND d.",
            $time,
            " <= ",
            now_ms!(),
            " AND EXISTS (SELECT 1 FROM users u WHERE u.id = d.user_id) \
             AND EXISTS (SELECT 1 FROM watches w WHERE w.id = d.watch_id) ORDER BY d.",
            $time,
            ", d.alert_id LIMIT ? FOR UPDATE SKIP LOCKED"
        )
    };
}
pub(super) const PENDING_DUE: &str = due!("pending", "due_ms");
pub(super) const LEASE_OVER: &str = due!("claimed", "lease_until_ms");

/// The numbers of those that may be claimed now, the longest due first. What another process is
/// about to claim or settle is left to it.
pub(super) async fn due(tx: &mut MySqlConnection, limit: u32) -> Result<Vec<i64>, Failure> {
    let mut due = Vec::new();
    for statement in [PENDING_DUE, LEASE_OVER] {
        for row in sqlx::query(statement).bind(limit).fetch_all(&mut *tx).await? {
            due.push((int(&row, 1)?, int(&row, 0)?));
        }
    }
    due.sort_unstable();
    due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(due.into_iter().map(|(_, id)| id).collect())
}

/// Claims some deliveries that this transaction holds; returns until when.
pub(super) async fn claim(
    tx: &mut MySqlConnection,
    claimant: &Claimant,
    ids: &[i64],
) -> Result<i64, Failure> {
    const CLAIM: Bulk = Bulk {
        head: "UPDATE deliveries SET state = 'claimed', owner = ?, lease_until_ms = ? + ?, \
               changed_ms = ? WHERE alert_id IN (",
        row: "?",
        between: ",",
        tail: ")",
    };
    let now: i64 = sqlx::query_scalar(concat!("SELECT ", now_ms!())).fetch_one(&mut *tx).await?;
    let lease = signed(claimant.lease_ms);
    for piece in padded(ids) {
        let claim = CLAIM.of(piece.len()).bind(claimant.owner.clone()).bind(now).bind(lease);
        let claim = piece.into_iter().fold(claim.bind(now), |query, id| query.bind(*id));
        claim.execute(&mut *tx).await?;
    }
    Ok(now.saturating_add(lease))
}

/// Those of some deliveries that `claimant` holds until just then. Waits for transactions that
/// are about to change them.
pub(super) async fn still_held(
    tx: &mut MySqlConnection,
    claimant: &Claimant,
    ids: &[i64],
    until: i64,
) -> Result<Vec<i64>, Failure> {
    const HELD: Bulk = Bulk {
        head: "SELECT alert_id FROM deliveries WHERE state = 'claimed' AND owner = ? \
               AND lease_until_ms = ? AND alert_id IN (",
        row: "?",
        between: ",",
        tail: ") FOR UPDATE",
    };
    let mut held = Vec::new();
    for piece in padded(ids) {
        let query = HELD.of(piece.len()).bind(claimant.owner.clone()).bind(until);
        let query = piece.into_iter().fold(query, |query, id| query.bind(*id));
        for row in query.fetch_all(&mut *tx).await? {
            held.push(int(&row, 0)?);
        }
    }
    Ok(held)
}

pub(super) const HELD_LONG: &str = concat!(
    "SELECT alert_id FROM deliveries WHERE state = 'claimed' AND owner = ? AND lease_until_ms <= ",
    now_ms!(),
    " + ? FOR UPDATE SKIP LOCKED"
);

/// Those that `claimant` has claimed for at least `held_ms` and that are none of `known`.
pub(super) async fn lost(
    tx: &mut MySqlConnection,
    claimant: &Claimant,
    known: &[DeliveryId],
    held_ms: u64,
) -> Result<Vec<i64>, Failure> {
    let known: HashSet<i64> = known.iter().map(|id| signed(id.0)).collect();
    let held: Vec<i64> = sqlx::query_scalar(HELD_LONG)
        .bind(claimant.owner.clone())
        .bind(signed(claimant.lease_ms).saturating_sub(signed(held_ms)))
        .fetch_all(tx)
        .await?;
    Ok(held.into_iter().filter(|id| !known.contains(id)).collect())
}
