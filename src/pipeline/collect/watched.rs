//! The symbols that are watched, for the sources that make prices of them by themselves.

use std::sync::Arc;

use tokio::sync::watch;

use crate::model::Symbol;

/// The watched symbols as they were read last. Clones share them.
#[derive(Clone, Debug)]
pub struct WatchedSymbols(watch::Sender<Arc<[Symbol]>>);

impl Default for WatchedSymbols {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl WatchedSymbols {
    /// States the symbols anew.
    pub fn set(&self, symbols: Vec<Symbol>) {
        self.0.send_if_modified(|current| {
            let changes = **current != *symbols;
            if changes {
                *current = symbols.into();
            }
            changes
        });
    }

    /// The symbols stated last.
    pub fn get(&self) -> Arc<[Symbol]> {
        self.0.borrow().clone()
    }
}
