//! For operators: dead letters, the backlog, and upkeep.

use async_trait::async_trait;

use super::{MysqlStore, sweep};
use crate::adapters::store::rows::{alert_columns, number, signed};
use crate::adapters::store::views::{dead_delivery, dead_record, delivery_state, time};
use crate::model::AlertId;
use crate::pipeline::store::StoreError;
use crate::server::store::{Backlog, DeadLetter, DeadLetterId, DeliveryState, OperatorStore};

macro_rules! dead_deliveries {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            alert_columns!(),
            ", d.alert_id, u.email, d.attempts, d.reason, d.changed_ms \
             FROM deliveries d JOIN alerts a ON a.id = d.alert_id \
             LEFT JOIN users u ON u.id = d.user_id WHERE d.state = 'dead' AND ",
            $condition
        )
    };
}

macro_rules! dead_records {
    ($condition:literal) => {
        concat!(
            "SELECT id, topic, `partition`, `offset`, reason, `key`, value, set_aside_ms \
             FROM dead_records WHERE ",
            $condition
        )
    };
}

pub(super) const DEAD_DELIVERIES: &str = dead_deliveries!(
    "d.changed_ms <= ? AND (d.changed_ms < ? OR d.alert_id < ?) \
     ORDER BY d.changed_ms DESC, d.alert_id DESC LIMIT ?"
);
pub(super) const DEAD_RECORDS: &str = dead_records!(
    "set_aside_ms <= ? AND (set_aside_ms < ? OR id < ?) \
     ORDER BY set_aside_ms DESC, id DESC LIMIT ?"
);
pub(super) const BACKLOG: &str = "SELECT (SELECT COUNT(*) FROM deliveries WHERE state = 'pending') \
     + (SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'), \
     (SELECT COUNT(*) FROM deliveries WHERE state = 'dead'), \
     (SELECT COUNT(*) FROM dead_records)";
pub(super) const DELIVERY: &str = "SELECT d.state FROM alerts a \
     LEFT JOIN deliveries d ON d.alert_id = a.id \
     WHERE a.watch_id = ? AND a.time_ms = ? AND a.version = ? AND a.`condition` = ?";

#[async_trait]
impl OperatorStore for MysqlStore {
    /// Of one instant, deliveries come before records and greater numbers before smaller ones.
    /// The listing starts over when `before` is no dead letter any more: rather twice than never.
    async fn dead_letters(
        &self,
        before: Option<DeadLetterId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let last = match before {
            None => None,
            Some(id) => self.dead_letter(id).await?,
        };
        let (time_ms, delivery, record) = match last {
            None => (i64::MAX, i64::MAX, i64::MAX),
            Some(DeadLetter::Delivery { id, time, .. }) => (time.millis(), signed(id), i64::MAX),
            Some(DeadLetter::Record { id, time, .. }) => (time.millis(), 0, signed(id)),
        };
        let page = |statement: &'static str, number: i64| {
            self.rows(move || {
                sqlx::query(statement).bind(time_ms).bind(time_ms).bind(number).bind(limit)
            })
        };
        let deliveries = page(DEAD_DELIVERIES, delivery).await?;
        let records = page(DEAD_RECORDS, record).await?;
        let mut letters: Vec<DeadLetter> = deliveries
            .iter()
            .map(dead_delivery)
            .chain(records.iter().map(dead_record))
            .collect::<Result<_, _>>()?;
        // Stable: deliveries stay before records, and both are in their order already.
        letters.sort_by_key(|letter| std::cmp::Reverse(time(letter)));
        letters.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(letters)
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        let (statement, number) = match id {
            DeadLetterId::Delivery(number) => (dead_deliveries!("d.alert_id = ?"), number),
            DeadLetterId::Record(number) => (dead_records!("id = ?"), number),
        };
        let row = self.row(|| sqlx::query(statement).bind(signed(number))).await?;
        row.map(|row| match id {
            DeadLetterId::Delivery(_) => dead_delivery(&row),
            DeadLetterId::Record(_) => dead_record(&row),
        })
        .transpose()
    }

    /// Costs what there is to count, by indices.
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let Some(row) = self.row(|| sqlx::query(BACKLOG)).await? else {
            return Ok(Backlog::default());
        };
        Ok(Backlog {
            pending: number(&row, 0)?,
            dead_deliveries: number(&row, 1)?,
            dead_records: number(&row, 2)?,
        })
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        sweep::sweep(self).await
    }

    async fn delivery(&self, id: AlertId) -> Result<Option<DeliveryState>, StoreError> {
        let query = || {
            sqlx::query(DELIVERY)
                .bind(signed(id.watch.0))
                .bind(id.time.millis())
                .bind(id.version.0)
                .bind(id.condition.as_str())
        };
        self.row(query).await?.map(|row| delivery_state(&row, 0)).transpose()
    }
}
