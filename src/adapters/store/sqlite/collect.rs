//! What the collector reads: which symbols are watched.

use async_trait::async_trait;

use super::SqliteStore;
use super::rows::parsed;
use crate::model::Symbol;
use crate::pipeline::collect::CollectStore;
use crate::pipeline::store::StoreError;

#[async_trait]
impl CollectStore for SqliteStore {
    async fn watched(&self) -> Result<Vec<Symbol>, StoreError> {
        let rows =
            sqlx::query("SELECT symbol FROM watched_symbols WHERE active > 0 ORDER BY symbol")
                .fetch_all(&mut *self.read().await?)
                .await?;
        rows.iter().map(|row| parsed(row, 0)).collect()
    }

    async fn watched_count(&self) -> Result<u64, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM watched_symbols WHERE watches > 0")
                .fetch_one(&mut *self.read().await?)
                .await?;
        Ok(count.cast_unsigned())
    }
}
