//! Statements over many rows, in few sizes, so that they are found prepared.

use sqlx::AssertSqlSafe;
use sqlx::mysql::{MySql, MySqlArguments};
use sqlx::query::Query;

/// Each size is a statement that every connection may keep prepared, on the server as well. None is
/// more than twice the one before: what a list is filled up with is written like all else.
const SIZES: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// A statement whose values are bound.
pub(super) type Bound = Query<'static, MySql, MySqlArguments>;

/// A statement that lists rows between its head and its tail, such as
/// `INSERT INTO t VALUES` `(?, ?), (?, ?)` `ON DUPLICATE KEY UPDATE a = VALUES(a)`.
pub(super) struct Bulk {
    pub(super) head: &'static str,
    /// The placeholders of one row: `(?, ?)`.
    pub(super) row: &'static str,
    /// What stands between two rows: a comma, `OR`, `UNION ALL`.
    pub(super) between: &'static str,
    pub(super) tail: &'static str,
}

impl Bulk {
    /// The statement over `rows` rows, with no value bound yet.
    pub(super) fn of(&self, rows: usize) -> Bound {
        sqlx::query(AssertSqlSafe(self.text(rows)))
    }

    pub(super) fn text(&self, rows: usize) -> String {
        let row = self.row.len() + self.between.len() + 2;
        let mut text = String::with_capacity(self.head.len() + self.tail.len() + 2 + rows * row);
        text.push_str(self.head);
        for index in 0..rows {
            if index > 0 {
                text.push(' ');
                text.push_str(self.between);
            }
            text.push(' ');
            text.push_str(self.row);
        }
        text.push(' ');
        text.push_str(self.tail);
        text
    }
}

/// Cuts rows into pieces of the sizes that there are. The last one is filled up by repeating its
/// last row: for statements to which a row more than once is the same as once.
pub(super) fn padded<T>(rows: &[T]) -> impl Iterator<Item = Vec<&T>> {
    let longest = SIZES[SIZES.len() - 1];
    rows.chunks(longest).map(move |piece| {
        let size = SIZES.into_iter().find(|size| *size >= piece.len()).unwrap_or(longest);
        let filler = piece.last().into_iter().cycle().take(size - piece.len());
        piece.iter().chain(filler).collect()
    })
}

/// Cuts rows into pieces of the sizes that there are, each row in one of them, in their order.
pub(super) fn exact<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().rev().find(|size| *size <= rows.len())?;
        let (piece, rest) = rows.split_at(size);
        rows = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_a_piece_of_a_known_size() {
        for count in [0, 1, 2, 3, 9, 511, 512, 513, 700, 1_500] {
            let rows: Vec<usize> = (0..count).collect();
            let pieces: Vec<Vec<&usize>> = padded(&rows).collect();
            assert!(pieces.iter().all(|piece| SIZES.contains(&piece.len())));
            let mut seen: Vec<usize> = pieces.into_iter().flatten().copied().collect();
            seen.dedup();
            assert_eq!(seen, rows);
            let pieces: Vec<&[usize]> = exact(&rows).collect();
            assert!(pieces.iter().all(|piece| SIZES.contains(&piece.len())));
            assert_eq!(pieces.concat(), rows);
        }
    }

    #[test]
    fn a_statement_lists_its_rows() {
        let ids = Bulk { head: "SELECT 1 WHERE 2 IN (", row: "?", between: ",", tail: ")" };
        assert_eq!(ids.text(1), "SELECT 1 WHERE 2 IN ( ? )");
        assert_eq!(ids.text(3), "SELECT 1 WHERE 2 IN ( ? , ? , ? )");
    }
}
