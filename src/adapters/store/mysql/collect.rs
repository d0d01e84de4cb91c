//! What the collector reads: which symbols are watched.

use async_trait::async_trait;

use super::MysqlStore;
use crate::adapters::store::rows::{number, parsed};
use crate::model::Symbol;
use crate::pipeline::collect::CollectStore;
use crate::pipeline::store::StoreError;

/// All of them in the order of their keys: what is watched is what it returns.
const WATCHED: &str = "SELECT symbol FROM watched_symbols WHERE active > 0 ORDER BY symbol";

#[async_trait]
impl CollectStore for MysqlStore {
    async fn watched(&self) -> Result<Vec<Symbol>, StoreError> {
        self.rows(|| sqlx::query(WATCHED)).await?.iter().map(|row| parsed(row, 0)).collect()
    }

    async fn watched_count(&self) -> Result<u64, StoreError> {
        let count = || sqlx::query("SELECT COUNT(*) FROM watched_symbols WHERE watches > 0");
        self.row(count).await?.map_or(Ok(0), |row| number(&row, 0))
    }
}
