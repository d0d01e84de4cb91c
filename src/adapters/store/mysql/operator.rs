//! For operators: dead letters, the backlog, and upkeep.

use async_trait::async_trait;
use sqlx::mysql::MySqlRow;

use super::bulk::{Bulk, padded};
use super::{MysqlStore, sweep};
use crate::adapters::store::letters::{Chosen, Place};
use crate::adapters::store::rows::{alert_columns, number, signed};
use crate::adapters::store::views::{dead_delivery, dead_record, delivery_state};
use crate::model::AlertId;
use crate::pipeline::store::StoreError;
use crate::server::store::{
    Backlog, DeadLetter, DeadLetterId, DeadLetters, DeliveryState, OperatorStore,
};

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

const DELIVERY_SIZES: &str = "SELECT d.alert_id, d.changed_ms, COALESCE(LENGTH(d.reason), 0) \
     FROM deliveries d JOIN alerts a ON a.id = d.alert_id WHERE d.state = 'dead' \
     AND d.changed_ms <= ? AND (d.changed_ms < ? OR d.alert_id < ?) \
     ORDER BY d.changed_ms DESC, d.alert_id DESC LIMIT ?";
const RECORD_SIZES: &str = "SELECT id, set_aside_ms, \
     LENGTH(reason) + COALESCE(LENGTH(`key`), 0) + LENGTH(value) FROM dead_records \
     WHERE set_aside_ms <= ? AND (set_aside_ms < ? OR id < ?) \
     ORDER BY set_aside_ms DESC, id DESC LIMIT ?";
const DEAD_DELIVERIES: Bulk =
    Bulk { head: dead_deliveries!("d.alert_id IN ("), row: "?", between: ",", tail: ")" };
const DEAD_RECORDS: Bulk =
    Bulk { head: dead_records!("id IN ("), row: "?", between: ",", tail: ")" };
pub(super) const BACKLOG: &str = "SELECT (SELECT COUNT(*) FROM deliveries WHERE state = 'pending') \
     + (SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'), \
     (SELECT COUNT(*) FROM deliveries WHERE state = 'dead'), \
     (SELECT COUNT(*) FROM dead_records)";
pub(super) const DELIVERY: &str = "SELECT d.state FROM alerts a \
     LEFT JOIN deliveries d ON d.alert_id = a.id \
     WHERE a.watch_id = ? AND a.time_ms = ? AND a.version = ? AND a.`condition` = ?";

impl MysqlStore {
    /// The rows that a statement finds by their numbers.
    async fn of_numbers(
        &self,
        statement: &Bulk,
        numbers: &[u64],
    ) -> Result<Vec<MySqlRow>, StoreError> {
        let mut found = Vec::new();
        for piece in padded(numbers) {
            let query = || {
                let query = statement.of(piece.len());
                piece.iter().fold(query, |query, number| query.bind(signed(**number)))
            };
            found.extend(self.rows(query).await?);
        }
        Ok(found)
    }
}

#[async_trait]
impl OperatorStore for MysqlStore {
    async fn dead_letters(
        &self,
        before: Option<DeadLetterId>,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DeadLetters, StoreError> {
        let last = match before {
            None => None,
            Some(id) => self.dead_letter(id).await?,
        };
        let Place { time_ms, delivery, record } = Place::after(last.as_ref());
        let sizes = |statement: &'static str, number: i64| {
            self.rows(move || {
                let query = sqlx::query(statement).bind(time_ms).bind(time_ms).bind(number);
                query.bind(i64::from(limit) + 1)
            })
        };
        let deliveries = sizes(DELIVERY_SIZES, delivery).await?;
        let records = sizes(RECORD_SIZES, record).await?;
        let chosen = Chosen::of(&deliveries, &records, limit, bytes_max)?;
        let (deliveries, records) = chosen.numbers();
        let mut letters = Vec::new();
        for row in &self.of_numbers(&DEAD_DELIVERIES, &deliveries).await? {
            letters.push(dead_delivery(row)?);
        }
        for row in &self.of_numbers(&DEAD_RECORDS, &records).await? {
            letters.push(dead_record(row)?);
        }
        Ok(chosen.page(letters))
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
