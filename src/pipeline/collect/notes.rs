//! Why a watched symbol has no price: what `watch list` tells its user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::Symbol;

/// A reason by symbol. Clones share the notes.
#[derive(Clone, Debug)]
pub struct SymbolNotes {
    notes: Arc<Mutex<HashMap<Symbol, String>>>,
    symbols_max: usize,
}

impl SymbolNotes {
    /// Notes of at most `symbols_max` symbols; of further ones nothing is noted.
    pub fn new(symbols_max: usize) -> Self {
        Self { notes: Arc::default(), symbols_max }
    }

    /// Why the symbol has no price, if anything is known.
    pub fn get(&self, symbol: Symbol) -> Option<String> {
        self.with(|notes| notes.get(&symbol).cloned())
    }

    /// Notes why the symbol has no price, in place of what was noted before.
    pub fn set(&self, symbol: Symbol, reason: String) {
        self.with(|notes| {
            if notes.len() < self.symbols_max || notes.contains_key(&symbol) {
                notes.insert(symbol, reason);
            }
        });
    }

    /// Forgets the note of a symbol that has a price.
    pub fn clear(&self, symbol: Symbol) {
        self.with(|notes| notes.remove(&symbol));
    }

    /// Forgets the notes of all symbols that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(Symbol) -> bool) {
        self.with(|notes| notes.retain(|symbol, _| keep(*symbol)));
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Symbol, String>) -> T) -> T {
        work(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
