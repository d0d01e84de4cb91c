//! How attempts at deliveries ended.

use sqlx::mysql::MySqlConnection;

use super::bulk::{Bulk, padded};
use super::{Failure, now_ms};
use crate::adapters::store::rows::signed;
use crate::model::Timestamp;
use crate::pipeline::notify::{Claimant, Outcome, Settlement};

/// Records how attempts ended. `now` is this process's present: when one is due again is counted
/// from it, so that clocks of processes are never compared.
pub(super) async fn settle(
    tx: &mut MySqlConnection,
    claimant: &Claimant,
    settlements: &[Settlement],
    now: Timestamp,
) -> Result<(), Failure> {
    // A mail that was taken is recorded whoever claims it now, and also if it was cancelled while
    // it was on its way.
    const DELIVERED: Bulk = Bulk {
        head: concat!(
            "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, owner = NULL, \
             lease_until_ms = NULL, reason = NULL, changed_ms = ",
            now_ms!(),
            " WHERE state <> 'delivered' AND alert_id IN ("
        ),
        row: "?",
        between: ",",
        tail: ")",
    };
    const OTHERS: Bulk = Bulk {
        head: "UPDATE deliveries d JOIN (",
        row: "SELECT CAST(? AS SIGNED) AS id, CAST(? AS CHAR) AS state, \
              CAST(? AS SIGNED) AS wait_ms, CAST(? AS SIGNED) AS judged, CAST(? AS CHAR) AS reason",
        between: "UNION ALL",
        tail: concat!(
            ") n ON n.id = d.alert_id SET d.state = n.state, d.due_ms = COALESCE(",
            now_ms!(),
            " + n.wait_ms, d.due_ms), d.attempts = d.attempts + n.judged, d.reason = n.reason, \
             d.owner = NULL, d.lease_until_ms = NULL, d.changed_ms = ",
            now_ms!(),
            " WHERE d.state = 'claimed' AND d.owner = ?"
        ),
    };
    let mut delivered = Vec::new();
    let mut others = Vec::new();
    for Settlement { id, outcome } in settlements {
        let wait = |at: &Timestamp| Some(at.millis().saturating_sub(now.millis()));
        match outcome {
            Outcome::Delivered => delivered.push(signed(id.0)),
            Outcome::Retry { at, error } => others.push((id, "pending", wait(at), 1, error)),
            Outcome::Unjudged { at, error } => others.push((id, "pending", wait(at), 0, error)),
            Outcome::Dead { error } => others.push((id, "dead", None, 1, error)),
        }
    }
    // In one order everywhere, so that nobody waits in a circle.
    delivered.sort_unstable();
    for piece in padded(&delivered) {
        let query = DELIVERED.of(piece.len());
        let query = piece.into_iter().fold(query, |query, id| query.bind(*id));
        query.execute(&mut *tx).await?;
    }
    others.sort_unstable_by_key(|(id, ..)| id.0);
    for piece in others.chunks(128).flat_map(padded) {
        let mut query = OTHERS.of(piece.len());
        for (id, state, wait_ms, judged, error) in piece {
            query = query
                .bind(signed(id.0))
                .bind(*state)
                .bind(*wait_ms)
                .bind(*judged)
                .bind((*error).clone());
        }
        query.bind(claimant.owner.clone()).execute(&mut *tx).await?;
    }
    Ok(())
}
