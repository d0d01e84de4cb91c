//! The symbols of one engine: from the bytes of a key to a dense index, and what is kept of each.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::SymbolIdx;
use crate::model::{MarketState, Symbol};

/// What the evaluator knows of a symbol beside the engine's state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// How many prices were kept.
    pub(super) prices: u64,
    /// The second of the newest one.
    pub(super) second: i64,
    /// Where the newest one stands among those to commit, plus 1; 0 if it is committed.
    pub(super) point: u32,
    /// Whether the state is to be committed.
    pub(super) dirty: bool,
    /// The state of its market, as the last tick stated it.
    pub(super) market: Option<MarketState>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { prices: 0, second: i64::MIN, point: 0, dirty: false, market: None }
    }
}

/// One cache line, since who finds a symbol by its name mostly needs the rest of it, too.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    name: Symbol,
    kept: Kept,
}

#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// Places in `entries`. By a keyed hash, because names come from outside.
    places: HashTable<u32>,
    hash: RandomState,
    entries: Vec<Entry>,
}

impl Symbols {
    /// Adds a symbol that is not here.
    ///
    /// # Panics
    /// With more than 2³² symbols, which no memory holds.
    pub(super) fn add(&mut self, name: Symbol) -> SymbolIdx {
        let Self { places, hash, entries } = self;
        let place = u32::try_from(entries.len()).expect("more than 2^32 symbols");
        entries.push(Entry { name, kept: Kept::default() });
        let hash_of = |name: &Symbol| hash.hash_one(name.as_bytes());
        places.insert_unique(hash_of(&name), place, |at| hash_of(&entries[*at as usize].name));
        SymbolIdx(place)
    }

    /// The index of a symbol by its upper-case bytes, if it is here.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<SymbolIdx> {
        let is_it = |at: &u32| self.entries[*at as usize].name.as_bytes() == name;
        self.places.find(self.hash.hash_one(name), is_it).copied().map(SymbolIdx)
    }

    /// The symbol of an index.
    #[inline]
    pub(super) fn name(&self, idx: SymbolIdx) -> &Symbol {
        &self.entries[idx.0 as usize].name
    }

    /// What is kept of a symbol.
    #[inline]
    pub(super) fn kept(&mut self, idx: SymbolIdx) -> &mut Kept {
        &mut self.entries[idx.0 as usize].kept
    }
}
