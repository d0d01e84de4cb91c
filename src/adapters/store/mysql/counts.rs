//! How many watches each symbol has, so that nobody has to count them.

use std::collections::BTreeMap;

use super::Failure;
use super::bulk::{Bulk, exact, padded};
use super::commands::Work;
use crate::adapters::store::rows::parsed;
use crate::model::Symbol;

/// How many watches a symbol has more, or fewer, and how many of those are not paused. In the
/// order in which their rows are locked.
pub(super) type Counts = BTreeMap<Symbol, (i64, i64)>;

impl Work<'_> {
    /// Counts watches of symbols, and drops the prices of those that nobody watches any more.
    /// Their last ticks stay.
    pub(super) async fn count(&mut self, counts: &Counts) -> Result<(), Failure> {
        const COUNT: Bulk = Bulk {
            head: "INSERT INTO watched_symbols (symbol, watches, active) VALUES",
            row: "(?, ?, ?)",
            between: ",",
            tail: "ON DUPLICATE KEY UPDATE watches = watches + VALUES(watches), \
                   active = active + VALUES(active)",
        };
        const UNWATCHED: Bulk = Bulk {
            head: "SELECT symbol FROM watched_symbols WHERE watches <= 0 AND symbol IN (",
            row: "?",
            between: ",",
            tail: ") FOR UPDATE",
        };
        const PRICES: Bulk = Bulk {
            head: "DELETE FROM prices WHERE symbol IN (",
            row: "?",
            between: ",",
            tail: ")",
        };
        const SYMBOLS: Bulk = Bulk {
            head: "DELETE FROM watched_symbols WHERE symbol IN (",
            row: "?",
            between: ",",
            tail: ")",
        };
        let all: Vec<_> = counts.iter().collect();
        for piece in exact(&all) {
            let mut count = COUNT.of(piece.len());
            for (symbol, (watches, active)) in piece {
                count = count.bind(symbol.as_str().to_owned()).bind(*watches).bind(*active);
            }
            count.execute(&mut *self.tx).await?;
        }
        let fewer: Vec<_> = all
            .iter()
            .filter(|(_, (watches, _))| *watches < 0)
            .map(|(symbol, _)| *symbol)
            .collect();
        let bound = |list: &Bulk, piece: Vec<&Symbol>| {
            let query = list.of(piece.len());
            piece.into_iter().fold(query, |query, symbol| query.bind(symbol.as_str().to_owned()))
        };
        let mut unwatched: Vec<Symbol> = Vec::new();
        for piece in padded(&fewer) {
            let piece = piece.into_iter().copied().collect();
            for row in bound(&UNWATCHED, piece).fetch_all(&mut *self.tx).await? {
                unwatched.push(parsed(&row, 0)?);
            }
        }
        for statement in [PRICES, SYMBOLS] {
            for piece in padded(&unwatched) {
                bound(&statement, piece).execute(&mut *self.tx).await?;
            }
        }
        Ok(())
    }
}
