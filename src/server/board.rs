//! The board: the newest price of each symbol that somebody asked for, in memory, and the
//! streams of prices and alerts.
//!
//! What the store says goes: a price from the log only bridges the time until the store has it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use serde::Deserialize;

use super::fanout::{Fanout, Slots, Subscription};
use super::fault::Fault;
use super::store::Quote;
use crate::metrics::Metrics;
use crate::model::{Alert, Symbol, Tick, Timestamp, UserId};
use crate::pipeline::clock::Clock;

/// Bounds of the board and its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoardOptions {
    /// Symbols whose newest price is held in memory at most.
    pub symbols_max: usize,
    /// Milliseconds after which the store is asked again for a symbol's newest price, because
    /// another process may have reset the symbol.
    pub quote_recheck_ms: u64,
    /// Streams open at the same time at most.
    pub streams_max: usize,
    /// Of these, streams of one account.
    pub streams_per_user_max: usize,
    /// Symbols that all streams together ask for; one of alerts counts as one.
    pub stream_keys_max: usize,
    /// Items that the reader of a stream may lag behind before its stream ends.
    pub stream_buffer: usize,
}

impl Default for BoardOptions {
    fn default() -> Self {
        Self {
            symbols_max: 100_000,
            quote_recheck_ms: 10_000,
            streams_max: 10_000,
            streams_per_user_max: 20,
            stream_keys_max: 1_000_000,
            stream_buffer: 1_024,
        }
    }
}

/// What the board knows of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its newest price, or that there is none.
    Known(Option<Quote>),
    /// The store is to be asked, and the answer [`learn`](Board::learn)ed.
    Ask,
}

struct Entry {
    quote: Option<Quote>,
    /// When the store was asked last; `None` while it is asked for the first time.
    asked: Option<Timestamp>,
    /// Whether `quote` came from the log since.
    fresh: bool,
}

/// The newest prices and the streams.
pub struct Board {
    options: BoardOptions,
    clock: Arc<dyn Clock>,
    newest: RwLock<HashMap<Symbol, Entry>>,
    quotes: Arc<Fanout<Symbol, Quote>>,
    alerts: Arc<Fanout<UserId, Alert>>,
}

impl Board {
    /// An empty board.
    pub fn new(options: BoardOptions, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let slots = Slots::new(
            options.streams_max,
            options.streams_per_user_max,
            options.stream_keys_max,
            metrics,
        );
        Self {
            options,
            clock,
            newest: RwLock::default(),
            quotes: Fanout::new(Arc::clone(&slots), options.stream_buffer),
            alerts: Fanout::new(slots, options.stream_buffer),
        }
    }

    /// The newest price of a symbol, if the board knows. Whoever gets [`Seen::Ask`] asks the
    /// store, one at a time where an older answer can be given meanwhile.
    pub fn newest(&self, symbol: Symbol) -> Seen {
        let now = self.clock.now();
        let recheck = Duration::from_millis(self.options.quote_recheck_ms);
        let known = |entry: &Entry| entry.asked.is_some_and(|asked| now.since(asked) < recheck);
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = newest.get(&symbol)
            && known(entry)
        {
            return Seen::Known(entry.quote);
        }
        drop(newest);
        let mut newest = self.write();
        if let Some(entry) = newest.get_mut(&symbol) {
            if known(entry) {
                return Seen::Known(entry.quote);
            }
            entry.asked = entry.asked.map(|_| now);
        } else {
            if newest.len() >= self.options.symbols_max {
                // Everything can be asked for again.
                newest.clear();
            }
            newest.insert(symbol, Entry { quote: None, asked: None, fresh: false });
        }
        Seen::Ask
    }

    /// Takes what the store says of a symbol, and returns its newest price.
    pub fn learn(&self, symbol: Symbol, stored: Option<Quote>) -> Option<Quote> {
        let now = self.clock.now();
        let mut newest = self.write();
        let Some(entry) = newest.get_mut(&symbol) else { return stored };
        let seen = entry.quote.filter(|_| entry.fresh);
        entry.quote = match (seen, stored) {
            (Some(seen), Some(stored)) => Some(newer(stored, seen).unwrap_or(stored)),
            (seen, stored) => stored.or(seen),
        };
        entry.asked = Some(now);
        entry.fresh = false;
        entry.quote
    }

    /// Forgets a symbol, so that the store is asked.
    pub fn forget(&self, symbol: Symbol) {
        self.write().remove(&symbol);
    }

    /// Takes accepted ticks, in order, and tells the streams.
    pub fn publish(&self, ticks: &[Tick]) {
        let mut newest = self.write();
        for tick in ticks {
            let Tick { symbol, time, price, currency, market } = *tick;
            let quote = Quote { symbol, time, price, currency, market };
            let quote = match newest.get_mut(&symbol) {
                None => Some(quote),
                Some(entry) => {
                    let next = match entry.quote {
                        None => Some(quote),
                        Some(before) => newer(before, quote),
                    };
                    if next.is_some() {
                        entry.quote = next;
                        entry.fresh = true;
                    }
                    next
                }
            };
            if let Some(quote) = quote {
                self.quotes.send(symbol, quote);
            }
        }
    }

    /// Takes alerts that were made, and tells the streams of their users.
    pub fn publish_alerts(&self, alerts: &[Alert]) {
        for alert in alerts {
            self.alerts.send(alert.user, *alert);
        }
    }

    /// The prices of some symbols from now on, for a user.
    pub fn stream_quotes(
        &self,
        user: UserId,
        symbols: Vec<Symbol>,
    ) -> Result<Subscription<Symbol, Quote>, Fault> {
        self.quotes.subscribe(user, symbols)
    }

    /// The alerts of a user from now on.
    pub fn stream_alerts(&self, user: UserId) -> Result<Subscription<UserId, Alert>, Fault> {
        self.alerts.subscribe(user, vec![user])
    }

    /// Ends the streams of alerts, because some may have been missed.
    pub fn gap(&self) {
        self.alerts.end_all(&Fault::Unavailable(
            "alerts may have been missed: list them, and open the stream again".to_owned(),
        ));
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Symbol, Entry>> {
        // Nothing panics while it holds the lock.
        self.newest.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `next` as a successor of `before`, unless it is late or in another currency, in which case
/// it does not count. One that states none is in the symbol's.
fn newer(before: Quote, next: Quote) -> Option<Quote> {
    let same = match (before.currency, next.currency) {
        (Some(pinned), Some(stated)) => pinned == stated,
        _ => true,
    };
    (same && next.time > before.time)
        .then(|| Quote { currency: before.currency.or(next.currency), ..next })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;
    use crate::adapters::clock::ManualClock;

    fn tick(seconds: u64, price: &str, currency: &str) -> Tick {
        Tick {
            symbol: "AAPL".parse().unwrap(),
            time: Timestamp::default().plus(Duration::from_secs(seconds)),
            price: price.parse().unwrap(),
            currency: currency.parse().ok(),
            market: None,
        }
    }

    fn quote(seconds: u64, price: &str, currency: &str) -> Quote {
        let Tick { symbol, time, price, currency, market } = tick(seconds, price, currency);
        Quote { symbol, time, price, currency, market }
    }

    fn board() -> (Arc<ManualClock>, Board, Symbol) {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let board =
            Board::new(BoardOptions::default(), Arc::clone(&clock) as _, Metrics::new("test"));
        (clock, board, "AAPL".parse().unwrap())
    }

    #[test]
    fn the_log_bridges_the_time_until_the_store_has_a_price() {
        let (clock, board, symbol) = board();
        board.publish(&[tick(1, "1", "USD")]);
        assert_eq!(board.newest(symbol), Seen::Ask);
        // Comes in while the store is asked.
        board.publish(&[tick(3, "3", "")]);
        assert_eq!(board.learn(symbol, Some(quote(2, "2", "USD"))), Some(quote(3, "3", "USD")));
        assert_eq!(board.newest(symbol), Seen::Known(Some(quote(3, "3", "USD"))));
        // Late, repeated, and in another currency: none of them counts.
        board.publish(&[tick(2, "9", "USD"), tick(3, "9", "USD"), tick(4, "9", "GBp")]);
        assert_eq!(board.newest(symbol), Seen::Known(Some(quote(3, "3", "USD"))));
        // Another process reset the symbol: noticed when the store is asked again.
        clock.advance(Duration::from_secs(10));
        assert_eq!(board.newest(symbol), Seen::Ask);
        assert_eq!(board.newest(symbol), Seen::Known(Some(quote(3, "3", "USD"))));
        assert_eq!(board.learn(symbol, Some(quote(1, "1", "USD"))), Some(quote(1, "1", "USD")));
        board.forget(symbol);
        assert_eq!(board.newest(symbol), Seen::Ask);
        assert_eq!(board.learn(symbol, None), None);
        assert_eq!(board.newest(symbol), Seen::Known(None));
    }

    #[tokio::test]
    async fn streams_get_what_counts() {
        let (_, board, symbol) = board();
        let mut stream = board.stream_quotes(UserId(1), vec![symbol]).unwrap();
        assert_eq!(board.newest(symbol), Seen::Ask);
        board.learn(symbol, Some(quote(1, "1", "USD")));
        board.publish(&[tick(1, "9", ""), tick(2, "2", "EUR"), tick(3, "3", "")]);
        assert_eq!(stream.next().await, Some(Ok(quote(3, "3", "USD"))));
        let mut alerts = board.stream_alerts(UserId(1)).unwrap();
        board.gap();
        assert!(matches!(alerts.next().await, Some(Err(Fault::Unavailable(_)))));
    }
}
