//! The evaluator of many symbols: a gate per symbol that lets almost every tick pass in a
//! few nanoseconds, and behind it the symbol's watches.

use std::hint::black_box;

use super::node::Node;
use super::policy::{Moment, Quiet};
use super::slot::{Slot, Sweep};
use super::symbols::{Kept, Symbols};
use super::tree::Tree;
use super::{Effects, Outcome};
use crate::model::{Currency, LastTick, Price, Symbol, Timestamp, Watch, WatchId, WatchState};

/// Dense index of a symbol within one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolIdx(pub u32);

/// Dense code of a currency within one engine; 0 where none is stated.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct CurrencyIdx(pub u16);

impl CurrencyIdx {
    /// No currency stated: the symbol's.
    pub const NONE: Self = Self(0);
    /// One of the currencies beyond the first 65,534. It is never a symbol's currency, so
    /// that a tick that states it is refused and two currencies are never taken for one.
    pub const UNKNOWN: Self = Self(u16::MAX);
}

/// A tick of a symbol and a currency that the engine has an index for.
#[derive(Clone, Copy, Debug)]
pub struct EngineTick {
    /// The instant of the price.
    pub time: Timestamp,
    /// The price.
    pub price: Price,
    /// What is priced.
    pub symbol: SymbolIdx,
    /// The money that the price is in.
    pub currency: CurrencyIdx,
}

/// The `time` of a gate that no tick has passed.
const NO_TICK: i64 = i64::MIN;

/// What of a symbol nearly every tick needs, and no more: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Gate {
    /// The prices that stay quiet for all the watches of the symbol: `low`, and `width` more.
    low: i64,
    width: u64,
    /// When a look is due in any case.
    wake: i64,
    /// The last tick that counted.
    time: i64,
    price: i64,
    currency: CurrencyIdx,
}

impl Gate {
    fn new(quiet: Quiet, last: Option<LastTick>, currency: CurrencyIdx) -> Self {
        let time = last.map_or(NO_TICK, |last| last.time.millis());
        let price = last.map_or(0, |last| last.price.units());
        let mut gate = Self { low: 0, width: 0, wake: 0, time, price, currency };
        gate.set_quiet(quiet);
        gate
    }

    fn set_quiet(&mut self, quiet: Quiet) {
        // Modulo 2^64, so the interval of no price, which is the greatest to the least, is that of
        // these two, which are no prices.
        (self.low, self.width) = (quiet.low, quiet.high.wrapping_sub(quiet.low).cast_unsigned());
        self.wake = quiet.wake;
    }

    /// Whether a price may concern a watch. One branch: which end it is beyond can't be foretold.
    #[inline]
    fn excludes(&self, price: i64) -> bool {
        price.wrapping_sub(self.low).cast_unsigned() > self.width
    }

    fn last(&self) -> Option<LastTick> {
        Some(LastTick {
            time: Timestamp::from_millis(self.time)?,
            price: Price::from_units(self.price)?,
        })
    }
}

/// Evaluates ticks against watches.
///
/// An index that this engine did not give out is a mistake in the program, and panics.
#[derive(Debug, Default)]
pub struct Engine {
    symbols: Symbols,
    gates: Vec<Gate>,
    trees: Vec<Tree>,
    /// Of the codes from 1 on.
    currencies: Vec<Currency>,
    watches: usize,
    /// Whether a tick has left its gate since the last look ahead.
    stirred: bool,
}

impl Engine {
    /// How many ticks to look ahead at once.
    pub const AHEAD: usize = 16;

    /// An engine without symbols.
    pub fn new() -> Self {
        Self::default()
    }

    /// The index of a symbol, which it is given if it has none.
    ///
    /// # Panics
    /// With more than 2³² symbols, which no memory holds.
    pub fn symbol(&mut self, symbol: Symbol) -> SymbolIdx {
        if let Some(idx) = self.find(symbol.as_bytes()) {
            return idx;
        }
        let idx = self.symbols.add(symbol);
        self.gates.push(Gate::new(Quiet::ALWAYS, None, CurrencyIdx::NONE));
        self.trees.push(Tree::default());
        idx
    }

    /// The index of a symbol by its upper-case bytes, if it has one.
    pub fn find(&self, symbol: &[u8]) -> Option<SymbolIdx> {
        self.symbols.find(symbol)
    }

    /// The symbol of an index.
    pub fn name(&self, idx: SymbolIdx) -> Symbol {
        *self.symbols.name(idx)
    }

    /// The code of a currency, which it is given if it has none.
    pub fn currency(&mut self, currency: Option<Currency>) -> CurrencyIdx {
        let Some(currency) = currency else { return CurrencyIdx::NONE };
        // There are a few hundred currencies; sources state a handful.
        let known = self.currencies.iter().position(|known| *known == currency);
        let at = known.unwrap_or(self.currencies.len());
        match u16::try_from(at + 1) {
            Ok(code) if code < CurrencyIdx::UNKNOWN.0 => {
                if known.is_none() {
                    self.currencies.push(currency);
                }
                CurrencyIdx(code)
            }
            _ => CurrencyIdx::UNKNOWN,
        }
    }

    /// A symbol's last tick that counted.
    pub fn last(&self, idx: SymbolIdx) -> Option<LastTick> {
        self.gates[idx.0 as usize].last()
    }

    /// The currency of a symbol: the first that a tick that counted has stated.
    pub fn pinned(&self, idx: SymbolIdx) -> Option<Currency> {
        let code = usize::from(self.gates[idx.0 as usize].currency.0);
        self.currencies.get(code.checked_sub(1)?).copied()
    }

    /// Sets what was known of a symbol before a restart; its watches are not evaluated.
    pub fn restore_symbol(
        &mut self,
        idx: SymbolIdx,
        last: Option<LastTick>,
        pinned: Option<Currency>,
    ) {
        let currency = self.currency(pinned);
        let at = idx.0 as usize;
        self.trees[at].rewrite(last, |_| {});
        self.gates[at] = Gate::new(self.trees[at].quiet(), last, currency);
    }

    /// Adds or changes a watch.
    ///
    /// - The engine holds the watch at this version or a newer one: nothing happens.
    /// - It holds an older version: the state that it holds is carried to the watch, which is
    ///   evaluated at once against the symbol's last tick, if there is one.
    /// - It does not hold it: `stored` is its state. One that was made with this version (or,
    ///   by another evaluator, with a newer one) is taken as it is and not evaluated; another
    ///   is carried to the watch, which is evaluated at once.
    ///
    /// The state is noted in `out` whenever its version was raised.
    pub fn apply(&mut self, watch: &Watch, stored: WatchState, out: &mut Effects) {
        let idx = self.symbol(watch.spec.symbol());
        let at = idx.0 as usize;
        let last = self.gates[at].last();
        let (symbol, watches) = (self.symbols.name(idx), &mut self.watches);
        let mut next = |held: Option<Slot>| {
            if held.is_some_and(|held| held.version >= watch.version) {
                return None;
            }
            let before = held.map_or(stored, |held| held.state);
            let mut slot = Slot::new(watch, before.carried_to(watch));
            if held.is_some() || before.version < watch.version {
                let told = last.is_some_and(|last| slot.evaluate(symbol, last, &mut out.alerts));
                if told || slot.state != before {
                    out.states.push((watch.id, slot.state));
                }
            }
            *watches += usize::from(held.is_none());
            Some(slot)
        };
        self.trees[at].put(watch.id, last, &mut next);
        self.gates[at].set_quiet(self.trees[at].quiet());
    }

    /// Removes a watch; returns whether the engine held it.
    pub fn remove(&mut self, symbol: Symbol, watch: WatchId) -> bool {
        let Some(idx) = self.find(symbol.as_bytes()) else { return false };
        let at = idx.0 as usize;
        let last = self.gates[at].last();
        let removed = self.trees[at].remove(watch, last);
        if removed {
            self.watches -= 1;
            self.gates[at].set_quiet(self.trees[at].quiet());
        }
        removed
    }

    /// An operator's reset: forgets a symbol's last tick and currency, and ends the cooldowns
    /// of its watches. The states that change are noted.
    pub fn reset_symbol(&mut self, symbol: Symbol, out: &mut Effects) {
        let Some(idx) = self.find(symbol.as_bytes()) else { return };
        self.trees[idx.0 as usize].rewrite(None, |slot| {
            if slot.state.last_alert.take().is_some() {
                out.states.push((slot.id, slot.state));
            }
        });
        self.restore_symbol(idx, None, None);
    }

    /// Evaluates a tick.
    #[inline]
    pub fn tick(&mut self, tick: EngineTick, out: &mut Effects) -> Outcome {
        let gate = &mut self.gates[tick.symbol.0 as usize];
        let (time, price) = (tick.time.millis(), tick.price.units());
        // One comparison and one branch each, which are foretold: less than to join them.
        if time <= gate.time || time >= gate.wake {
            return self.tick_slowly(tick, out);
        }
        if gate.excludes(price) {
            return self.tick_slowly(tick, out);
        }
        if tick.currency != CurrencyIdx::NONE && tick.currency != gate.currency {
            return self.tick_slowly(tick, out);
        }
        (gate.time, gate.price) = (time, price);
        Outcome::Counted
    }

    /// Reads early what the next ticks will touch, about [`Engine::AHEAD`] of them, and changes
    /// nothing that shows.
    ///
    /// A tick that leaves its gate waits for one line of memory after the other; asked for
    /// together, those of several ticks come side by side. Where no tick has left a gate since
    /// the last call, it is taken that none will, and nothing is read.
    #[inline]
    pub fn look_ahead<'a>(&mut self, ticks: impl IntoIterator<Item = &'a EngineTick>) {
        if std::mem::take(&mut self.stirred) {
            self.read_ahead(ticks);
        }
    }

    /// What is kept of a symbol beside its state.
    pub(super) fn kept(&mut self, idx: SymbolIdx) -> &mut Kept {
        self.symbols.kept(idx)
    }

    /// Reads a symbol's gate, for the sake of reading it.
    pub(super) fn touch(&self, idx: SymbolIdx) -> i64 {
        self.gates[idx.0 as usize].time
    }

    fn read_ahead<'a>(&self, ticks: impl IntoIterator<Item = &'a EngineTick>) {
        let mut read = 0;
        for tick in ticks {
            let (idx, price) = (tick.symbol.0 as usize, tick.price.units());
            let gate = &self.gates[idx];
            if gate.excludes(price) {
                read ^= self.trees[idx].read_ahead(price > gate.price);
            }
        }
        // Without a use of it, nothing would be read.
        black_box(read);
    }

    /// Reads early what the next changes of watches will touch, up to [`Engine::AHEAD`] of them,
    /// and changes nothing.
    pub fn look_ahead_changes(&self, changes: impl IntoIterator<Item = (Symbol, WatchId)>) {
        let mut nodes = [None; Self::AHEAD];
        let mut highest = 0;
        for (node, (symbol, watch)) in nodes.iter_mut().zip(changes) {
            let idx = self.find(symbol.as_bytes());
            *node = idx.and_then(|idx| self.trees[idx.0 as usize].root()).map(|(root, height)| {
                highest = highest.max(height);
                (root, height, watch.0)
            });
        }
        // All of them down by one level at a time, so that they wait together at each. That a
        // node is no leaf is known from the height: to read it first would be to wait for it.
        for level in (1..=highest).rev() {
            for (node, height, id) in nodes.iter_mut().flatten() {
                if *height >= level
                    && let Some(kid) = node.kid(*id)
                {
                    *node = kid;
                }
            }
        }
        let read = |read: u64, (leaf, _, id): &(&Node, usize, u64)| read ^ leaf.read_ahead(*id);
        black_box(nodes.iter().flatten().fold(0, read));
    }

    /// A tick that does not count, or that may concern a watch.
    #[cold]
    fn tick_slowly(&mut self, tick: EngineTick, out: &mut Effects) -> Outcome {
        let idx = tick.symbol.0 as usize;
        let gate = &mut self.gates[idx];
        let at = Moment { price: tick.price.units(), time: tick.time.millis() };
        if at.time <= gate.time {
            return Outcome::Late;
        }
        if tick.currency != CurrencyIdx::NONE && tick.currency != gate.currency {
            if gate.currency != CurrencyIdx::NONE || tick.currency == CurrencyIdx::UNKNOWN {
                return Outcome::Currency;
            }
            gate.currency = tick.currency;
        }
        self.stirred = true;
        let rising = at.price >= gate.price;
        let woken = at.time >= gate.wake;
        (gate.time, gate.price) = (at.time, at.price);
        let mut sweep = Sweep {
            symbol: self.symbols.name(tick.symbol),
            tick: LastTick { time: tick.time, price: tick.price },
            at,
            rising,
            room: 0,
            near: Vec::new(),
            out,
        };
        gate.set_quiet(self.trees[idx].sweep(&mut sweep, woken));
        Outcome::Counted
    }

    /// A watch's state.
    pub fn state(&self, symbol: Symbol, watch: WatchId) -> Option<WatchState> {
        let idx = self.find(symbol.as_bytes())?;
        self.trees[idx.0 as usize].get(watch).map(|slot| slot.state)
    }

    /// The number of watches.
    pub fn len(&self) -> usize {
        self.watches
    }

    /// Whether there are no watches.
    pub fn is_empty(&self) -> bool {
        self.watches == 0
    }
}

#[cfg(test)]
impl Engine {
    /// A gate may open for fewer prices than are quiet only if nothing has been evaluated
    /// yet, and never for more: exactly what all the watches have in common.
    pub(super) fn check_gate(&self, symbol: Symbol) {
        let Some(idx) = self.find(symbol.as_bytes()) else { return };
        let (gate, last) = (&self.gates[idx.0 as usize], self.last(idx));
        let slots = self.trees[idx.0 as usize].slots();
        assert!(slots.is_sorted_by_key(|slot| slot.id));
        let exact = slots.iter().fold(Quiet::ALWAYS, |quiet, slot| quiet.and(slot.quiet(last)));
        let high = gate.low.wrapping_add(gate.width.cast_signed());
        assert_eq!((gate.low, high), (exact.low, exact.high), "{symbol}");
        assert!(gate.wake <= exact.wake, "{symbol}");
        assert!(last.is_none_or(|last| gate.wake > last.time.millis()), "{symbol}");
    }

    pub(super) fn fill_currencies(&mut self, currencies: impl Iterator<Item = Currency>) {
        self.currencies = currencies.take(usize::from(CurrencyIdx::UNKNOWN.0) - 1).collect();
    }
}
