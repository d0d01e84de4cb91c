//! Statements over many rows: one of 128 rows costs little more than one of a single row.

use sqlx::AssertSqlSafe;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};

use crate::pipeline::store::StoreError;

/// Few sizes, so that every statement is found prepared; the smallest takes what is left over.
const SIZES: [usize; 3] = [128, 16, 1];

/// A statement whose values are bound.
pub(super) type Bound<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A statement that lists rows between its head and its tail, such as
/// `INSERT INTO t VALUES` `(?, ?), (?, ?)` `ON CONFLICT DO NOTHING`.
pub(super) struct Bulk {
    pub(super) head: &'static str,
    /// The placeholders of one row: `(?, ?)`.
    pub(super) row: &'static str,
    pub(super) tail: &'static str,
}

impl Bulk {
    /// Executes the statement for all rows, in their order; `bind` binds the values of one.
    pub(super) async fn execute<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bind: impl for<'q> Fn(Bound<'q>, &'q T) -> Bound<'q> + Send + Sync,
    ) -> Result<(), StoreError> {
        for size in SIZES {
            if rows.len() < size {
                continue;
            }
            let sql = self.text(size);
            while rows.len() >= size {
                let (chunk, rest) = rows.split_at(size);
                let query = sqlx::query(AssertSqlSafe(sql.as_str()));
                chunk.iter().fold(query, &bind).execute(&mut *connection).await?;
                rows = rest;
            }
        }
        Ok(())
    }

    fn text(&self, rows: usize) -> String {
        let mut text = String::with_capacity(300 + rows * (self.row.len() + 1));
        text.push_str(self.head);
        for index in 0..rows {
            text.push(if index == 0 { ' ' } else { ',' });
            text.push_str(self.row);
        }
        text.push(' ');
        text.push_str(self.tail);
        text
    }
}
