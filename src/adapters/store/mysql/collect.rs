//! What the collector reads: which symbols are watched.

use async_trait::async_trait;

use super::MysqlStore;
use super::bulk::{Bulk, padded};
use crate::adapters::store::rows::{number, parsed};
use crate::model::Symbol;
use crate::pipeline::collect::CollectStore;
use crate::pipeline::store::StoreError;

/// All of them in the order of their keys: what is watched is what it returns.
const WATCHED: &str = "SELECT symbol FROM watched_symbols WHERE active > 0 ORDER BY symbol";

const SET_NOTES: Bulk = Bulk {
    head: "INSERT INTO symbol_notes (symbol, note) VALUES",
    row: "(?, ?)",
    between: ",",
    tail: "ON DUPLICATE KEY UPDATE note = VALUES(note)",
};
const REMOVE_NOTES: Bulk =
    Bulk { head: "DELETE FROM symbol_notes WHERE symbol IN (", row: "?", between: ",", tail: ")" };

#[async_trait]
impl CollectStore for MysqlStore {
    async fn watched(&self) -> Result<Vec<Symbol>, StoreError> {
        self.rows(|| sqlx::query(WATCHED)).await?.iter().map(|row| parsed(row, 0)).collect()
    }

    async fn watched_count(&self) -> Result<u64, StoreError> {
        let count = || sqlx::query("SELECT COUNT(*) FROM watched_symbols WHERE watches > 0");
        self.row(count).await?.map_or(Ok(0), |row| number(&row, 0))
    }

    async fn note_symbols(&self, notes: &[(Symbol, Option<String>)]) -> Result<(), StoreError> {
        let (set, gone): (Vec<_>, Vec<_>) = notes.iter().partition(|(_, note)| note.is_some());
        let (set, gone) = (&set, &gone);
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            for piece in padded(set) {
                let set = piece.iter().fold(SET_NOTES.of(piece.len()), |query, (symbol, note)| {
                    query.bind(symbol.to_string()).bind(note.clone())
                });
                set.execute(&mut *tx).await?;
            }
            for piece in padded(gone) {
                let remove =
                    piece.iter().fold(REMOVE_NOTES.of(piece.len()), |query, (symbol, _)| {
                        query.bind(symbol.to_string())
                    });
                remove.execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    async fn forget_notes(&self) -> Result<(), StoreError> {
        self.attempts(|_| async move {
            let mut tx = self.begin().await?;
            sqlx::query("DELETE FROM symbol_notes").execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}
