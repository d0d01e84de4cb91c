//! Why a watched symbol has no price: what `watch list` tells its user.
//!
//! The poller notes it in memory; what changed is written to the store, for every server to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::Symbol;

/// A reason by symbol. Clones share the notes.
#[derive(Clone, Debug)]
pub struct SymbolNotes {
    inner: Arc<Inner>,
    symbols_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    notes: Mutex<Notes>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Notes {
    known: HashMap<Symbol, String>,
    /// What differs from what was taken last: the note of now, or none.
    changes: HashMap<Symbol, Option<String>>,
}

impl SymbolNotes {
    /// Notes of at most `symbols_max` symbols; of further ones nothing is noted.
    pub fn new(symbols_max: usize) -> Self {
        Self { inner: Arc::default(), symbols_max }
    }

    /// Why the symbol has no price, if anything is known.
    pub fn get(&self, symbol: Symbol) -> Option<String> {
        self.with(|notes| notes.known.get(&symbol).cloned())
    }

    /// Notes why the symbol has no price, in place of what was noted before.
    pub fn set(&self, symbol: Symbol, reason: String) {
        self.with(|notes| {
            let known = notes.known.get(&symbol);
            let has_room = known.is_some() || notes.known.len() < self.symbols_max;
            if has_room && known != Some(&reason) {
                notes.changes.insert(symbol, Some(reason.clone()));
                notes.known.insert(symbol, reason);
            }
        });
    }

    /// Forgets the note of a symbol that has a price.
    pub fn clear(&self, symbol: Symbol) {
        self.retain(|other| other != symbol);
    }

    /// Forgets the notes of all symbols that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(Symbol) -> bool) {
        self.with(|notes| {
            let gone = notes.known.extract_if(|symbol, _| !keep(*symbol));
            notes.changes.extend(gone.map(|(symbol, _)| (symbol, None)));
        });
    }

    /// Waits for changes, and takes at most `limit` of them. Cancel-safe.
    pub async fn changes(&self, limit: usize) -> Vec<(Symbol, Option<String>)> {
        loop {
            let changed = self.inner.changed.notified();
            let taken = self.with(|notes| {
                let symbols: Vec<Symbol> = notes.changes.keys().take(limit).copied().collect();
                let take = |symbol| notes.changes.remove_entry(&symbol);
                symbols.into_iter().filter_map(take).collect::<Vec<_>>()
            });
            if !taken.is_empty() {
                return taken;
            }
            changed.await;
        }
    }

    /// Puts changes back that were taken and could not be written, unless newer ones came.
    pub fn put_back(&self, changes: Vec<(Symbol, Option<String>)>) {
        self.with(|notes| {
            for (symbol, note) in changes {
                notes.changes.entry(symbol).or_insert(note);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.inner.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut notes);
        if !notes.changes.is_empty() {
            self.inner.changed.notify_waiters();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changed_is_taken_once_and_can_be_put_back() {
        let notes = SymbolNotes::new(2);
        let symbol = |name: &str| name.parse::<Symbol>().unwrap();
        let (a, b, c) = (symbol("A"), symbol("B"), symbol("C"));
        for symbol in [a, b, c] {
            notes.set(symbol, "unknown".to_owned());
        }
        let mut taken = notes.changes(10).await;
        taken.sort();
        assert_eq!(taken, [(a, Some("unknown".to_owned())), (b, Some("unknown".to_owned()))]);
        // The same again is no change.
        notes.set(a, "unknown".to_owned());
        notes.clear(b);
        notes.clear(c);
        assert_eq!(notes.changes(10).await, [(b, None)]);
        notes.set(b, "away".to_owned());
        notes.put_back(vec![(b, None)]);
        assert_eq!(notes.changes(10).await, [(b, Some("away".to_owned()))]);
        assert_eq!(notes.get(b).as_deref(), Some("away"));
        let waiting = tokio::spawn({
            let notes = notes.clone();
            async move { notes.changes(1).await }
        });
        tokio::task::yield_now().await;
        notes.retain(|symbol| symbol == b);
        assert_eq!(waiting.await.unwrap(), [(a, None)]);
    }
}
