//! What the collector reads: which symbols are watched.

use async_trait::async_trait;

use super::SqliteStore;
use super::bulk::Bulk;
use super::rows::parsed;
use crate::model::Symbol;
use crate::pipeline::collect::CollectStore;
use crate::pipeline::store::StoreError;

const SET_NOTES: Bulk = Bulk {
    head: "INSERT INTO symbol_notes (symbol, note) VALUES",
    row: "(?, ?)",
    tail: "ON CONFLICT (symbol) DO UPDATE SET note = excluded.note",
};
const REMOVE_NOTES: Bulk =
    Bulk { head: "DELETE FROM symbol_notes WHERE symbol IN (VALUES", row: "(?)", tail: ")" };

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

    async fn note_symbols(&self, notes: &[(Symbol, Option<String>)]) -> Result<(), StoreError> {
        let (set, gone): (Vec<_>, Vec<_>) = notes.iter().partition(|(_, note)| note.is_some());
        let mut tx = self.write().await?;
        SET_NOTES
            .execute(&mut tx, &set, |query, (symbol, note)| {
                query.bind(symbol.as_str()).bind(note.as_deref())
            })
            .await?;
        REMOVE_NOTES
            .execute(&mut tx, &gone, |query, (symbol, _)| query.bind(symbol.as_str()))
            .await?;
        Ok(tx.commit().await?)
    }

    async fn forget_notes(&self) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM symbol_notes").execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
