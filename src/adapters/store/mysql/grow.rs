//! Growing the number of partitions in a store that no process uses meanwhile.
//!
//! Each step can be repeated, and the number itself is changed last: until then every process
//! that starts finds more partitions in the broker than in the store, and refuses to go on.

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, QueryBuilder, Row as _};

use super::open::connect_options;
use super::{Failure, MysqlOptions};
use crate::adapters::store::{ALERTS_TOPIC, TICKS_TOPIC};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::partition_of;
use crate::pipeline::store::StoreError;

/// Rows rewritten in one statement.
const ROWS_MAX: u32 = 2_000;

/// One connection that grows the partitions.
pub struct Growth(MySqlConnection);

impl Growth {
    /// Connects to a database that has the schema. `Permanent` if the URL is none.
    pub async fn connect(mysql: &MysqlOptions) -> Result<Self, StoreError> {
        let options = connect_options(mysql).map_err(StoreError::Permanent)?;
        let options = options.disable_statement_logging();
        Ok(Self(MySqlConnection::connect_with(&options).await.map_err(failed)?))
    }

    /// How many partitions the store knows of each topic; `None` if it was never used.
    pub async fn partitions(&mut self) -> Result<Option<u32>, StoreError> {
        let known: Option<i64> =
            sqlx::query_scalar("SELECT CAST(MIN(partitions) AS SIGNED) FROM topics")
                .fetch_one(&mut self.0)
                .await
                .map_err(failed)?;
        Ok(known.and_then(|known| u32::try_from(known).ok()))
    }

    /// Where the consumer of each partition stands that ever had one.
    pub async fn positions(&mut self, topic: &str) -> Result<Vec<(Partition, Offset)>, StoreError> {
        let rows = sqlx::query(
            "SELECT CAST(`partition` AS SIGNED), CAST(position AS SIGNED) FROM partitions \
             WHERE topic = ? ORDER BY `partition`",
        )
        .bind(topic)
        .fetch_all(&mut self.0)
        .await
        .map_err(failed)?;
        let position = |row: &MySqlRow| {
            let (partition, position): (i64, i64) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            let partition = Partition(u32::try_from(partition).unwrap_or(u32::MAX));
            Ok((partition, Offset(position.cast_unsigned())))
        };
        rows.iter().map(position).collect()
    }

    /// Alerts that are made and perhaps not published: those that no notifier has taken.
    pub async fn unpublished(&mut self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM partitions p \
             JOIN alerts a ON a.`partition` = p.`partition` AND a.seq > p.published_seq \
             LEFT JOIN deliveries d ON d.alert_id = a.id \
             WHERE p.topic = ? AND d.alert_id IS NULL",
        )
        .bind(TICKS_TOPIC)
        .fetch_one(&mut self.0)
        .await
        .map_err(failed)?;
        Ok(count.cast_unsigned())
    }

    /// Where the other connections to this database come from: each process that runs has some.
    pub async fn others(&mut self) -> Result<Vec<String>, StoreError> {
        let hosts: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(host AS CHAR) FROM information_schema.processlist \
             WHERE db = DATABASE() AND id <> CONNECTION_ID() ORDER BY 1",
        )
        .fetch_all(&mut self.0)
        .await
        .map_err(failed)?;
        Ok(hosts)
    }

    /// Voids the right to commit of whoever owned a partition.
    pub async fn fence(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE partitions SET epoch = epoch + 1 WHERE topic IN (?, ?)")
            .bind(TICKS_TOPIC)
            .bind(ALERTS_TOPIC)
            .execute(&mut self.0)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Puts every watch, symbol and change into the partition that its symbol has out of
    /// `total`, page by page. `done` hears of each page: the table, and rows looked at.
    pub async fn rewrite(
        &mut self,
        total: u32,
        mut done: impl FnMut(&'static str, u64),
    ) -> Result<(), StoreError> {
        for (table, key) in [("watches", "id"), ("changes", "id"), ("symbol_states", "symbol")] {
            let mut rows = 0;
            let mut after = None;
            while let Some(page) = self.page(table, key, after.as_deref()).await? {
                self.move_page(table, key, after.as_deref(), &page, total).await?;
                rows += page.rows;
                done(table, rows);
                after = Some(page.last);
            }
        }
        Ok(())
    }

    /// The next rows of a table in the order of its key.
    async fn page(
        &mut self,
        table: &str,
        key: &str,
        after: Option<&str>,
    ) -> Result<Option<Page>, StoreError> {
        let condition = if after.is_some() { format!("WHERE {key} > ?") } else { String::new() };
        let sql = format!(
            "SELECT CAST({key} AS CHAR), symbol FROM {table} {condition} ORDER BY {key} LIMIT ?"
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = match after {
            Some(after) => query.bind(after),
            None => query,
        };
        let rows = query.bind(ROWS_MAX).fetch_all(&mut self.0).await.map_err(failed)?;
        let Some(last) = rows.last() else { return Ok(None) };
        let last = last.try_get(0).map_err(failed)?;
        let mut symbols = Vec::with_capacity(rows.len());
        for row in &rows {
            symbols.push(row.try_get::<String, _>(1).map_err(failed)?);
        }
        symbols.sort_unstable();
        symbols.dedup();
        Ok(Some(Page { last, rows: rows.len() as u64, symbols }))
    }

    async fn move_page(
        &mut self,
        table: &str,
        key: &str,
        after: Option<&str>,
        page: &Page,
        total: u32,
    ) -> Result<(), StoreError> {
        let mut update = QueryBuilder::new(format!("UPDATE {table} t JOIN ("));
        for (index, symbol) in page.symbols.iter().enumerate() {
            update.push(if index == 0 { "SELECT " } else { " UNION ALL SELECT " });
            update
                .push("CAST(")
                .push_bind(symbol)
                .push(" AS CHAR CHARACTER SET ascii) AS symbol, ");
            update.push_bind(partition_of(symbol.as_bytes(), total).0).push(" AS number");
        }
        update.push(") m ON t.symbol = m.symbol COLLATE ascii_bin SET t.`partition` = m.number");
        update.push(format!(" WHERE t.{key} <= ")).push_bind(&page.last);
        if let Some(after) = after {
            update.push(format!(" AND t.{key} > ")).push_bind(after);
        }
        update.build().execute(&mut self.0).await.map_err(failed)?;
        Ok(())
    }

    /// From here on the store has `total` partitions of each topic.
    pub async fn switch(&mut self, total: u32) -> Result<(), StoreError> {
        sqlx::query("UPDATE topics SET partitions = ? WHERE topic IN (?, ?)")
            .bind(total)
            .bind(TICKS_TOPIC)
            .bind(ALERTS_TOPIC)
            .execute(&mut self.0)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

/// Some rows of a table, next to each other.
struct Page {
    /// The key of the last one, as text.
    last: String,
    rows: u64,
    symbols: Vec<String>,
}

fn failed(error: sqlx::Error) -> StoreError {
    Failure::from(error).into()
}
