//! Asks a source for the prices of the watched symbols, again and again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::{CollectStore, MarketError, Quotes, SymbolNotes, TickStream};
use crate::metrics::{Metrics, Reason};
use crate::model::{Symbol, Tick};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::store::StoreError;

/// How the watched symbols are polled.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollerOptions {
    /// The time from the start of one cycle to the start of the next, in milliseconds. While a
    /// cycle takes longer, the symbols still to be asked are not asked twice.
    pub interval_ms: u64,
    /// The longest random delay of a cycle's start, in milliseconds: it keeps collectors that
    /// were started together from asking together.
    pub jitter_max_ms: u64,
    /// The time between two readings of the watched symbols, in milliseconds. New ones are
    /// asked for at once, in turns with the others.
    pub reread_ms: u64,
    /// How many symbols are asked for at the same time.
    pub concurrency_max: usize,
    /// How many ticks are passed on at once.
    pub batch_max: usize,
}

/// What a poller works with.
pub struct PollerPorts {
    /// The source.
    pub quotes: Arc<dyn Quotes>,
    /// Who knows what is watched.
    pub store: Arc<dyn CollectStore>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For the jitter.
    pub random: Arc<dyn Random>,
    /// Where ticks and refusals are counted.
    pub metrics: Metrics,
    /// Where it is noted why a symbol has no price.
    pub notes: SymbolNotes,
}

/// Tells a poller that a symbol may be new.
#[derive(Clone, Debug, Default)]
pub struct PollerHandle(Arc<Notify>);

impl PollerHandle {
    /// Makes the poller read the watched symbols at once. Cheap, and never waits.
    pub fn poke(&self) {
        self.0.notify_one();
    }
}

type Answer = (Symbol, Result<Tick, MarketError>);
type Reading = BoxFuture<'static, Result<(Vec<Symbol>, Option<u64>), StoreError>>;

/// A stream of the watched symbols' prices. It never ends.
///
/// All that is under way is kept here and not in a call of `next`, so that a cancelled call
/// loses nothing.
pub struct Poller {
    ports: PollerPorts,
    options: PollerOptions,
    poked: PollerHandle,
    /// Symbols of the cycle that are still to be asked.
    queue: VecDeque<Symbol>,
    /// Symbols watched since it began, still to be asked.
    newcomers: VecDeque<Symbol>,
    /// Whose turn it is when both wait.
    newcomer_next: bool,
    /// Symbols of this cycle that are in the queue, under way, or done with.
    asked: HashSet<Symbol>,
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
    under_way_symbols: HashSet<Symbol>,
    reading: Option<Reading>,
    /// Whether the symbols read next are those of a new cycle.
    fresh: bool,
    cycle: BoxFuture<'static, ()>,
    reread: BoxFuture<'static, ()>,
}

impl Poller {
    /// A poller whose first cycle starts with the first call of `next`.
    pub fn new(ports: PollerPorts, options: PollerOptions) -> Self {
        Self {
            ports,
            options,
            poked: PollerHandle::default(),
            queue: VecDeque::new(),
            newcomers: VecDeque::new(),
            newcomer_next: true,
            asked: HashSet::new(),
            under_way: FuturesUnordered::new(),
            under_way_symbols: HashSet::new(),
            reading: None,
            fresh: false,
            cycle: std::future::ready(()).boxed(),
            reread: std::future::pending().boxed(),
        }
    }

    /// A handle that may outlive the poller.
    pub fn handle(&self) -> PollerHandle {
        self.poked.clone()
    }

    fn timer(&self, millis: u64) -> BoxFuture<'static, ()> {
        let clock = self.ports.clock.clone();
        // At least a millisecond, or a clock that stands still would never be waited for.
        async move { clock.sleep(Duration::from_millis(millis.max(1))).await }.boxed()
    }

    fn start_cycle(&mut self) {
        let jitter = match self.options.jitter_max_ms {
            0 => 0,
            max => self.ports.random.next_u64() % max.saturating_add(1),
        };
        self.cycle = self.timer(self.options.interval_ms.saturating_add(jitter));
        let waiting = self.queue.iter().chain(&self.newcomers);
        self.asked = waiting.chain(&self.under_way_symbols).copied().collect();
        self.fresh = true;
        self.read();
    }

    /// Reads the watched symbols, unless that is under way.
    fn read(&mut self) {
        self.reread = self.timer(self.options.reread_ms);
        if self.reading.is_some() {
            return;
        }
        let (store, counts) = (self.ports.store.clone(), self.fresh);
        self.reading = Some(
            async move {
                let watched = store.watched().await?;
                let count = if counts { Some(store.watched_count().await?) } else { None };
                Ok((watched, count))
            }
            .boxed(),
        );
    }

    /// Queues the symbols that have not been asked for in this cycle.
    fn queue(&mut self, watched: &[Symbol], count: Option<u64>) {
        if let Some(count) = count {
            self.ports.metrics.set_monitored_tickers(count);
        }
        let is_watched = |symbol: Symbol| watched.binary_search(&symbol).is_ok();
        self.ports.notes.retain(is_watched);
        self.queue.retain(|symbol| is_watched(*symbol));
        self.newcomers.retain(|symbol| is_watched(*symbol));
        let fresh = std::mem::take(&mut self.fresh);
        for symbol in watched {
            if !self.asked.insert(*symbol) {
                continue;
            }
            // Who has just added a watch is waiting; the rest of a cycle is not.
            let queue = if fresh { &mut self.queue } else { &mut self.newcomers };
            queue.push_back(*symbol);
        }
    }

    /// The symbol to be asked next: new ones and the cycle's take turns, so that a stream of new
    /// ones leaves the others half of the pace.
    fn next_symbol(&mut self) -> Option<Symbol> {
        let newcomer = self.newcomer_next || self.queue.is_empty();
        let queue = if newcomer && !self.newcomers.is_empty() {
            &mut self.newcomers
        } else {
            &mut self.queue
        };
        let symbol = queue.pop_front();
        self.newcomer_next = !newcomer || self.newcomers.is_empty();
        symbol
    }

    /// Asks for as many symbols as may be asked for at the same time.
    fn launch(&mut self) {
        while self.under_way.len() < self.options.concurrency_max.max(1) {
            let Some(symbol) = self.next_symbol() else { return };
            let quotes = self.ports.quotes.clone();
            self.under_way_symbols.insert(symbol);
            self.under_way.push(async move { (symbol, quotes.quote(symbol).await) }.boxed());
        }
    }

    /// Takes one answer: a tick, or the note why there is none.
    fn settle(&mut self, (symbol, answer): Answer) -> Option<Tick> {
        self.under_way_symbols.remove(&symbol);
        let error = match answer {
            Ok(tick) => {
                self.ports.notes.clear(symbol);
                return Some(tick);
            }
            Err(error) => error,
        };
        let refused =
            |reason| self.ports.metrics.ticks_refused.get_or_create(&Reason { reason }).inc();
        match &error {
            MarketError::UnknownSymbol(_) => drop(refused("unknown")),
            MarketError::BadPrice { .. } => {
                refused("price");
                warn!(%symbol, %error, "a price was refused");
            }
            MarketError::NoPrice(_) => debug!(%symbol, "no price now"),
            // It was not asked, so it is asked again at the next reading.
            MarketError::BreakerOpen => drop(self.asked.remove(&symbol)),
            MarketError::Failed(_) | MarketError::Throttled { .. } | MarketError::BadRow(_) => {
                warn!(%symbol, %error, "no price in this cycle");
            }
        }
        self.ports.notes.set(symbol, error.to_string());
        None
    }

    /// Takes an answer, and those that are ready with it.
    fn settle_ready(&mut self, first: Answer) -> Vec<Tick> {
        let mut ticks = Vec::new();
        let mut answer = Some(first);
        while let Some(current) = answer.take() {
            ticks.extend(self.settle(current));
            self.launch();
            if ticks.len() < self.options.batch_max {
                answer = self.under_way.next().now_or_never().flatten();
            }
        }
        ticks
    }
}

#[async_trait]
impl TickStream for Poller {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>> {
        loop {
            self.launch();
            let poked = self.poked.clone();
            let reads = self.reading.is_some();
            let asks = !self.under_way.is_empty();
            let reading = async {
                match &mut self.reading {
                    Some(reading) => reading.await,
                    None => std::future::pending().await,
                }
            };
            // The timers come first: each has to be polled once to begin.
            tokio::select! {
                biased;
                () = &mut self.cycle => self.start_cycle(),
                () = &mut self.reread => self.read(),
                // While a reading is under way a poke stays pending: that reading may have
                // begun before what the poke is about.
                () = poked.0.notified(), if !reads => self.read(),
                read = reading => {
                    self.reading = None;
                    match read {
                        Ok((watched, count)) => self.queue(&watched, count),
                        Err(error) => warn!(%error, "could not read what is watched; trying again"),
                    }
                }
                Some(answer) = self.under_way.next(), if asks => {
                    let ticks = self.settle_ready(answer);
                    if !ticks.is_empty() {
                        return Some(Ok(ticks));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
