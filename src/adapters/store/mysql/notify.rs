//! What the notifier owns: deliveries, from an alert's arrival to its end.
//!
//! What is written when is in [`super::deliveries`].

use std::sync::Mutex;

use async_trait::async_trait;

use super::deliveries::{self, Noted};
use super::{Failure, MysqlStore, now_ms, progress, settlements};
use crate::adapters::store::ALERTS_TOPIC;
use crate::adapters::store::rows::{self, Cells};
use crate::adapters::store::step::Advance;
use crate::model::{AlertSeq, Offset, Partition, Timestamp};
use crate::pipeline::notify::{
    Claimant, Claimed, Delivery, DeliveryId, Incoming, NotifyStore, Owned, Settlement,
};
use crate::pipeline::store::{DeadRecord, Fence, Span, StoreError};

pub(super) const NEXT_DUE: &str = concat!(
    "SELECT (SELECT MIN(due_ms) FROM deliveries WHERE state = 'pending'), \
     (SELECT MIN(lease_until_ms) FROM deliveries WHERE state = 'claimed'), ",
    now_ms!()
);

#[async_trait]
impl NotifyStore for MysqlStore {
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
        let claim_max = usize::try_from(claim_max).unwrap_or(usize::MAX);
        let published = AlertSeq(0);
        let advance = &Advance { topic: ALERTS_TOPIC, fence, span, alerts: None, published };
        self.attempts(|repeated| async move {
            let mut tx = self.begin().await?;
            if !progress::advance(&mut tx, advance).await? {
                // Accepted before: by the attempt before this one, whose claims nobody heard of,
                // or by a call before this one, whose claims were returned by it.
                let ids = match repeated {
                    true => deliveries::ids(&mut tx, incoming).await?,
                    false => Vec::new(),
                };
                let claimed = deliveries::claimed_by(&mut tx, claimant, &ids).await?;
                tx.roll_back().await?;
                return Ok(claimed);
            }
            let claimed = deliveries::insert(&mut tx, incoming, claimant, claim_max).await?;
            progress::set_aside(&mut tx, dead).await?;
            tx.commit().await?;
            Ok(claimed)
        })
        .await
    }

    async fn claim(&self, claimant: &Claimant, limit: u32) -> Result<Claimed, StoreError> {
        // Looked at first without the right to write: an idle notifier disturbs nobody.
        let due = self.next_due().await?;
        if limit == 0 || !due.now {
            return Ok(Claimed { deliveries: Vec::new(), next_due: due.next });
        }
        let noted = Noted(Mutex::new(None));
        let noted = &noted;
        let claimed = self
            .attempts(|repeated| async move {
                if repeated && let Some((ids, until)) = noted.get() {
                    let mut tx = self.begin().await?;
                    let held = deliveries::still_held(&mut tx, claimant, &ids, until).await?;
                    let claimed = deliveries::claimed_by(&mut tx, claimant, &held).await?;
                    tx.roll_back().await?;
                    if !claimed.is_empty() {
                        return Ok(claimed);
                    }
                }
                let mut tx = self.begin().await?;
                let ids = deliveries::due(&mut tx, limit).await?;
                if ids.is_empty() {
                    tx.roll_back().await?;
                    return Ok(Vec::new());
                }
                let until = deliveries::claim(&mut tx, claimant, &ids).await?;
                let claimed = deliveries::claimed_by(&mut tx, claimant, &ids).await?;
                noted.set(ids, until);
                tx.commit().await?;
                Ok::<_, Failure>(claimed)
            })
            .await?;
        let next_due = if claimed.is_empty() { self.next_due().await?.next } else { None };
        Ok(Claimed { deliveries: claimed, next_due })
    }

    /// An attempt whose commit was not heard of is repeated: what it settled is claimed by nobody
    /// any more, so that nothing is settled twice.
    async fn settle(
        &self,
        claimant: &Claimant,
        settlements: &[Settlement],
    ) -> Result<(), StoreError> {
        let now = self.inner.clock.now();
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            settlements::settle(&mut tx, claimant, settlements, now).await?;
            tx.commit().await
        })
        .await
    }

    async fn reclaim(
        &self,
        claimant: &Claimant,
        known: &[DeliveryId],
        held_ms: u64,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            let lost = deliveries::lost(&mut tx, claimant, known, held_ms).await?;
            if lost.is_empty() {
                tx.roll_back().await?;
                return Ok(Vec::new());
            }
            deliveries::claim(&mut tx, claimant, &lost).await?;
            let claimed = deliveries::claimed_by(&mut tx, claimant, &lost).await?;
            tx.commit().await?;
            Ok(claimed)
        })
        .await
    }
}

/// When there is something to claim.
struct Due {
    /// Now.
    now: bool,
    /// When next, on the clock of this process.
    next: Option<Timestamp>,
}

impl MysqlStore {
    async fn next_due(&self) -> Result<Due, StoreError> {
        let Some(row) = self.row(|| sqlx::query(NEXT_DUE)).await? else {
            return Ok(Due { now: false, next: None });
        };
        let server_now = rows::int(&row, 2)?;
        let next = row.int(0)?.into_iter().chain(row.int(1)?).min();
        let here = self.inner.clock.now().millis();
        Ok(Due {
            now: next.is_some_and(|due| due <= server_now),
            next: next
                .and_then(|due| Timestamp::from_millis(here.saturating_add(due - server_now))),
        })
    }
}
