//! What the notifier owns: deliveries, from an alert's arrival to its end.

use async_trait::async_trait;
use serde_json::json;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Executor, Row};

use super::rows::{alert_columns, delivery};
use super::{SqliteStore, Write, progress};
use crate::adapters::store::ALERTS_TOPIC;
use crate::adapters::store::step::Advance;
use crate::model::{AlertSeq, Offset, Partition, Timestamp};
use crate::pipeline::notify::{
    Claimant, Claimed, Delivery, DeliveryId, Incoming, NotifyStore, Outcome, Owned, Settlement,
};
use crate::pipeline::store::{DeadRecord, Fence, Span, StoreError};

#[async_trait]
impl NotifyStore for SqliteStore {
    async fn own(&self, partition: Partition, earliest: Offset) -> Result<Owned, StoreError> {
        Ok(self.take(ALERTS_TOPIC, partition, earliest).await?.for_notifier())
    }

    async fn accept(
        &self,
        fence: Fence,
        span: Span,
        incoming: &[Incoming],
        dead: &[DeadRecord],
        claimant: &Claimant,
        claim_max: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let now = self.inner.clock.now();
        let mut tx = self.write().await?;
        let published = AlertSeq(0);
        let advance = Advance { topic: ALERTS_TOPIC, fence, span, alerts: None, published };
        if !progress::advance(&mut tx, &advance).await? {
            return Ok(Vec::new());
        }
        let claim_max = usize::try_from(claim_max).unwrap_or(usize::MAX);
        let (claimed, waiting) = incoming.split_at(claim_max.min(incoming.len()));
        let ids = insert(&mut tx, claimed, Some(claimant), now).await?;
        insert(&mut tx, waiting, None, now).await?;
        progress::set_aside(&mut tx, dead, now).await?;
        let deliveries = claimed_by(&mut tx, claimant, &ids).await?;
        tx.commit().await?;
        Ok(deliveries)
    }

    async fn claim(&self, claimant: &Claimant, limit: u32) -> Result<Claimed, StoreError> {
        let now = self.inner.clock.now();
        // Looked at first without the right to write: an idle notifier disturbs nobody.
        let next_due = next_due(&mut *self.read().await?).await?;
        if limit == 0 || next_due.is_none_or(|due| due > now) {
            return Ok(Claimed { deliveries: Vec::new(), next_due });
        }
        let mut tx = self.write().await?;
        let rows = sqlx::query(
            "WITH due (id, due_ms) AS ( \
               SELECT * FROM (SELECT alert_id, due_ms FROM deliveries d \
                 WHERE state = 'pending' AND due_ms <= ?1 \
                 AND EXISTS (SELECT 1 FROM users WHERE id = d.user_id) \
                 AND EXISTS (SELECT 1 FROM watches WHERE id = d.watch_id) \
                 ORDER BY due_ms LIMIT ?4) \
               UNION ALL \
               SELECT * FROM (SELECT alert_id, due_ms FROM deliveries d \
                 WHERE state = 'claimed' AND lease_until_ms <= ?1 \
                 AND EXISTS (SELECT 1 FROM users WHERE id = d.user_id) \
                 AND EXISTS (SELECT 1 FROM watches WHERE id = d.watch_id) \
                 ORDER BY lease_until_ms LIMIT ?4)) \
             UPDATE deliveries SET state = 'claimed', owner = ?2, lease_until_ms = ?3, \
               changed_ms = ?1 \
             WHERE alert_id IN (SELECT id FROM due ORDER BY due_ms, id LIMIT ?4) \
             RETURNING alert_id",
        )
        .bind(now.millis())
        .bind(claimant.owner.as_str())
        .bind(lease_until(claimant, now))
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let deliveries = claimed_by(&mut tx, claimant, &ids).await?;
        let next_due = if deliveries.is_empty() { self::next_due(&mut *tx).await? } else { None };
        tx.commit().await?;
        Ok(Claimed { deliveries, next_due })
    }

    async fn settle(
        &self,
        claimant: &Claimant,
        settlements: &[Settlement],
    ) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        let mut tx = self.write().await?;
        let delivered: Vec<u64> = settlements
            .iter()
            .filter(|settlement| settlement.outcome == Outcome::Delivered)
            .map(|settlement| settlement.id.0)
            .collect();
        if !delivered.is_empty() {
            record_delivered(&mut tx, &delivered, now).await?;
        }
        let failed: Vec<_> = settlements.iter().filter_map(failed).collect();
        if !failed.is_empty() {
            record_failed(&mut tx, claimant, failed, now).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn reclaim(
        &self,
        claimant: &Claimant,
        known: &[DeliveryId],
        held_ms: u64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let now = self.inner.clock.now();
        let lease_until = lease_until(claimant, now);
        let known: Vec<u64> = known.iter().map(|id| id.0).collect();
        // Looked at first without the right to write, as in `claim`.
        let lost: Vec<i64> = sqlx::query_scalar(
            "SELECT alert_id FROM deliveries WHERE state = 'claimed' AND owner = ? \
             AND lease_until_ms <= ? AND alert_id NOT IN (SELECT value FROM json_each(?))",
        )
        .bind(claimant.owner.as_str())
        .bind(lease_until.saturating_sub_unsigned(held_ms))
        .bind(json!(known).to_string())
        .fetch_all(&mut *self.read().await?)
        .await?;
        if lost.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE deliveries SET lease_until_ms = ?, changed_ms = ? \
             WHERE state = 'claimed' AND owner = ? \
             AND alert_id IN (SELECT value FROM json_each(?))",
        )
        .bind(lease_until)
        .bind(now.millis())
        .bind(claimant.owner.as_str())
        .bind(json!(lost).to_string())
        .execute(&mut *tx)
        .await?;
        let deliveries = claimed_by(&mut tx, claimant, &lost).await?;
        tx.commit().await?;
        Ok(deliveries)
    }
}

impl SqliteStore {
    /// Gives back every claim, and returns how many there were. For the one process that
    /// delivers, when it starts: whoever holds a claim now is dead, and its lease needs no wait.
    pub async fn release_claims(&self) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let released = sqlx::query(
            "UPDATE deliveries SET state = 'pending', owner = NULL, lease_until_ms = NULL, \
             changed_ms = ? WHERE state = 'claimed'",
        )
        .bind(self.inner.clock.now().millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(released.rows_affected())
    }
}

/// Makes the deliveries of those alerts that the store has and that have none, and returns
/// their numbers. Claimed at once by `claimant`, or waiting; cancelled where nobody is left to
/// tell.
async fn insert(
    tx: &mut Write,
    incoming: &[Incoming],
    claimant: Option<&Claimant>,
    now: Timestamp,
) -> Result<Vec<i64>, StoreError> {
    if incoming.is_empty() {
        return Ok(Vec::new());
    }
    let identities: Vec<_> = incoming
        .iter()
        .map(|Incoming { alert: crate::model::Alert { id, .. }, trace, .. }| {
            let trace = trace.map(|trace| trace.to_text());
            json!([id.watch.0, id.version.0, id.time.millis(), id.condition.as_str(), trace])
        })
        .collect();
    let rows = sqlx::query(
        "INSERT INTO deliveries (alert_id, user_id, watch_id, state, due_ms, attempts, owner, \
           lease_until_ms, reason, changed_ms, traceparent) \
         SELECT id, user_id, watch_id, iif(gone IS NULL, ?2, 'cancelled'), ?3, 0, \
           iif(gone IS NULL, ?4, NULL), iif(gone IS NULL, ?5, NULL), gone, ?3, trace \
         FROM (SELECT a.id, a.user_id, a.watch_id, CASE \
             WHEN NOT EXISTS (SELECT 1 FROM users u WHERE u.id = a.user_id) THEN 'user' \
             WHEN NOT EXISTS (SELECT 1 FROM watches w WHERE w.id = a.watch_id) THEN 'watch' \
           END AS gone, i.value ->> 4 AS trace \
           FROM json_each(?1) i CROSS JOIN alerts a \
             ON a.watch_id = i.value ->> 0 AND a.version = i.value ->> 1 \
             AND a.time_ms = i.value ->> 2 AND a.condition = i.value ->> 3) \
         WHERE true ON CONFLICT (alert_id) DO NOTHING RETURNING alert_id",
    )
    .bind(serde_json::Value::from(identities).to_string())
    .bind(if claimant.is_some() { "claimed" } else { "pending" })
    .bind(now.millis())
    .bind(claimant.map(|claimant| claimant.owner.as_str()))
    .bind(claimant.map(|claimant| lease_until(claimant, now)))
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Those of some deliveries that `claimant` has claimed, the longest due first.
async fn claimed_by(
    connection: &mut SqliteConnection,
    claimant: &Claimant,
    ids: &[i64],
) -> Result<Vec<Delivery>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(concat!(
        "SELECT ",
        alert_columns!(),
        ", d.alert_id, u.email, d.attempts, a.accepted_ms, d.traceparent \
         FROM json_each(?) i CROSS JOIN deliveries d ON d.alert_id = i.value \
         JOIN alerts a ON a.id = d.alert_id JOIN users u ON u.id = d.user_id \
         WHERE d.state = 'claimed' AND d.owner = ? ORDER BY d.due_ms, d.alert_id",
    ))
    .bind(json!(ids).to_string())
    .bind(claimant.owner.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(delivery).collect()
}

/// What an attempt that failed leaves: the delivery, its state, when it is due, how many attempts
/// more were judged, and why.
fn failed(settlement: &Settlement) -> Option<serde_json::Value> {
    let (state, due, judged, reason) = match &settlement.outcome {
        Outcome::Delivered => return None,
        Outcome::Retry { at, error } => ("pending", Some(at), 1, error),
        Outcome::Unjudged { at, error } => ("pending", Some(at), 0, error),
        Outcome::Dead { error } => ("dead", None, 1, error),
    };
    Some(json!([settlement.id.0, state, due.map(|at| at.millis()), judged, reason]))
}

/// Only what is still claimed by `claimant` is its to judge.
async fn record_failed(
    tx: &mut Write,
    claimant: &Claimant,
    failed: Vec<serde_json::Value>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET state = f.value ->> 1, due_ms = coalesce(f.value ->> 2, due_ms), \
         attempts = attempts + (f.value ->> 3), reason = f.value ->> 4, owner = NULL, \
         lease_until_ms = NULL, changed_ms = ? \
         FROM json_each(?) f \
         WHERE alert_id = f.value ->> 0 AND state = 'claimed' AND owner = ?",
    )
    .bind(now.millis())
    .bind(serde_json::Value::from(failed).to_string())
    .bind(claimant.owner.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A mail that was taken is recorded whoever claims it now, and also if it was cancelled while
/// it was on its way.
async fn record_delivered(tx: &mut Write, ids: &[u64], now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, owner = NULL, \
         lease_until_ms = NULL, reason = NULL, changed_ms = ? \
         WHERE alert_id IN (SELECT value FROM json_each(?)) AND state <> 'delivered'",
    )
    .bind(now.millis())
    .bind(json!(ids).to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// When the next delivery may be claimed.
async fn next_due<'e>(
    executor: impl Executor<'e, Database = sqlx::Sqlite>,
) -> Result<Option<Timestamp>, StoreError> {
    let due: Option<i64> = sqlx::query_scalar(
        "SELECT min(due) FROM (SELECT min(due_ms) AS due FROM deliveries WHERE state = 'pending' \
         UNION ALL SELECT min(lease_until_ms) FROM deliveries WHERE state = 'claimed')",
    )
    .fetch_one(executor)
    .await?;
    Ok(due.and_then(Timestamp::from_millis))
}

fn lease_until(claimant: &Claimant, now: Timestamp) -> i64 {
    now.plus(std::time::Duration::from_millis(claimant.lease_ms)).millis()
}
