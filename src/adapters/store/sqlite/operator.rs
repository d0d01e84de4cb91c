//! For operators: dead letters, the backlog, and upkeep.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;

use super::rows::{self, alert_columns};
use super::views::{dead_delivery, dead_record, delivery_state};
use super::{SqliteStore, sweep};
use crate::adapters::store::letters::{Chosen, Place};
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
            ", d.alert_id, u.email, d.attempts, d.reason, d.changed_ms
             FROM deliveries d JOIN alerts a ON a.id = d.alert_id
             LEFT JOIN users u ON u.id = d.user_id
             WHERE d.state = 'dead' AND ",
            $condition
        )
    };
}

macro_rules! dead_records {
    ($condition:literal) => {
        concat!(
            "SELECT id, topic, partition, offset, reason, key, value, set_aside_ms
             FROM dead_records WHERE ",
            $condition
        )
    };
}

const DELIVERY_SIZES: &str = "SELECT d.alert_id, d.changed_ms,
            COALESCE(LENGTH(CAST(d.reason AS BLOB)), 0)
     FROM deliveries d JOIN alerts a ON a.id = d.alert_id
     WHERE d.state = 'dead' AND (d.changed_ms, d.alert_id) < (?, ?)
     ORDER BY d.changed_ms DESC, d.alert_id DESC LIMIT ?";
const RECORD_SIZES: &str = "SELECT id, set_aside_ms,
            LENGTH(CAST(reason AS BLOB)) + COALESCE(LENGTH(key), 0) + LENGTH(value)
     FROM dead_records WHERE (set_aside_ms, id) < (?, ?)
     ORDER BY set_aside_ms DESC, id DESC LIMIT ?";

#[async_trait]
impl OperatorStore for SqliteStore {
    async fn dead_letters(
        &self,
        before: Option<DeadLetterId>,
        limit: u32,
        bytes_max: u64,
    ) -> Result<DeadLetters, StoreError> {
        let mut connection = self.read().await?;
        let last = match before {
            None => None,
            Some(id) => find(&mut connection, id).await?,
        };
        let Place { time_ms, delivery, record } = Place::after(last.as_ref());
        let sizes = |statement: &'static str, number: i64| {
            sqlx::query(statement).bind(time_ms).bind(number).bind(i64::from(limit) + 1)
        };
        let deliveries = sizes(DELIVERY_SIZES, delivery).fetch_all(&mut *connection).await?;
        let records = sizes(RECORD_SIZES, record).fetch_all(&mut *connection).await?;
        let chosen = Chosen::of(&deliveries, &records, limit, bytes_max)?;
        let (deliveries, records) = chosen.numbers();
        let mut letters = Vec::new();
        let found = dead_deliveries!("d.alert_id IN (SELECT value FROM json_each(?))");
        let found = sqlx::query(found).bind(serde_json::Value::from(deliveries).to_string());
        for row in &found.fetch_all(&mut *connection).await? {
            letters.push(dead_delivery(row)?);
        }
        let found = dead_records!("id IN (SELECT value FROM json_each(?))");
        let found = sqlx::query(found).bind(serde_json::Value::from(records).to_string());
        for row in &found.fetch_all(&mut *connection).await? {
            letters.push(dead_record(row)?);
        }
        Ok(chosen.page(letters))
    }

    async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, StoreError> {
        find(&mut *self.read().await?, id).await
    }

    /// Costs what there is to count, by indices that hold nothing else: about 0.2 µs a row.
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let mut connection = self.read().await?;
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM deliveries WHERE state = 'pending')
                  + (SELECT COUNT(*) FROM deliveries WHERE state = 'claimed'),
                    (SELECT COUNT(*) FROM deliveries WHERE state = 'dead'),
                    (SELECT COUNT(*) FROM dead_records)",
        )
        .fetch_one(&mut *connection)
        .await?;
        Ok(Backlog {
            pending: rows::number(&row, 0)?,
            dead_deliveries: rows::number(&row, 1)?,
            dead_records: rows::number(&row, 2)?,
        })
    }

    async fn sweep(&self) -> Result<bool, StoreError> {
        sweep::sweep(self).await
    }

    async fn delivery(&self, id: AlertId) -> Result<Option<DeliveryState>, StoreError> {
        let mut connection = self.read().await?;
        let row = sqlx::query(
            "SELECT d.state FROM alerts a LEFT JOIN deliveries d ON d.alert_id = a.id
             WHERE a.watch_id = ? AND a.time_ms = ? AND a.version = ? AND a.condition = ?",
        )
        .bind(rows::signed(id.watch.0))
        .bind(id.time.millis())
        .bind(id.version.0)
        .bind(id.condition.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        row.map(|row| delivery_state(&row, 0)).transpose()
    }
}

async fn find(
    connection: &mut SqliteConnection,
    id: DeadLetterId,
) -> Result<Option<DeadLetter>, StoreError> {
    let (statement, number) = match id {
        DeadLetterId::Delivery(number) => (dead_deliveries!("d.alert_id = ?"), number),
        DeadLetterId::Record(number) => (dead_records!("id = ?"), number),
    };
    let found =
        sqlx::query(statement).bind(rows::signed(number)).fetch_optional(connection).await?;
    let Some(row) = found else { return Ok(None) };
    match id {
        DeadLetterId::Delivery(_) => dead_delivery(&row),
        DeadLetterId::Record(_) => dead_record(&row),
    }
    .map(Some)
}
