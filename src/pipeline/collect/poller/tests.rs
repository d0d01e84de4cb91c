//! The poller with a source that answers when it is told to, on a clock turned by hand.

use std::collections::HashMap;
use std::sync::Mutex;
use std::task::Poll;

use tokio::sync::oneshot;

use super::*;
use crate::adapters::clock::{ManualClock, SeededRandom};
use crate::model::Timestamp;

#[derive(Default)]
struct World {
    watched: Mutex<Vec<Symbol>>,
    store_fails: Mutex<bool>,
    asked: Mutex<Vec<Symbol>>,
    errors: Mutex<HashMap<Symbol, MarketError>>,
    /// Symbols whose answer waits until the sender is dropped.
    held: Mutex<HashMap<Symbol, oneshot::Receiver<()>>>,
}

#[async_trait]
impl CollectStore for World {
    async fn watched(&self) -> Result<Vec<Symbol>, StoreError> {
        match *self.store_fails.lock().unwrap() {
            true => Err(StoreError::Transient("locked".to_owned())),
            false => Ok(self.watched.lock().unwrap().clone()),
        }
    }

    async fn watched_count(&self) -> Result<u64, StoreError> {
        Ok(self.watched.lock().unwrap().len() as u64 + 1)
    }

    async fn note_symbols(&self, _: &[(Symbol, Option<String>)]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forget_notes(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Quotes for World {
    async fn quote(&self, symbol: Symbol) -> Result<Tick, MarketError> {
        self.asked.lock().unwrap().push(symbol);
        let held = self.held.lock().unwrap().remove(&symbol);
        if let Some(held) = held {
            let _ = held.await;
        }
        match self.errors.lock().unwrap().get(&symbol) {
            Some(error) => Err(error.clone()),
            None => Ok(Tick {
                symbol,
                time: Timestamp::default(),
                price: "1".parse().unwrap(),
                currency: None,
                market: None,
            }),
        }
    }
}

struct Test {
    world: Arc<World>,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    notes: SymbolNotes,
    poller: Poller,
}

fn symbols(text: &str) -> Vec<Symbol> {
    text.split_whitespace().map(|symbol| symbol.parse().unwrap()).collect()
}

impl Test {
    fn new(watched: &str, change: impl FnOnce(&mut PollerOptions)) -> Self {
        let world = Arc::new(World::default());
        *world.watched.lock().unwrap() = symbols(watched);
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let (metrics, notes) = (Metrics::new("test"), SymbolNotes::new(2));
        let mut options = PollerOptions {
            interval_ms: 120_000,
            jitter_max_ms: 0,
            reread_ms: 5_000,
            concurrency_max: 2,
            batch_max: 100,
        };
        change(&mut options);
        let ports = PollerPorts {
            quotes: world.clone(),
            store: world.clone(),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            metrics: metrics.clone(),
            notes: notes.clone(),
        };
        Self { poller: Poller::new(ports, options), world, clock, metrics, notes }
    }

    /// The batches that are ready now, separated by bars.
    fn ready(&mut self) -> String {
        let mut batches = Vec::new();
        // Each call is dropped while it waits, as a caller with something else to do would.
        while let Some(Some(ticks)) = self.poller.next().now_or_never() {
            let names =
                ticks.unwrap().iter().map(|tick| tick.symbol.to_string()).collect::<Vec<_>>();
            batches.push(names.join(" "));
        }
        batches.join(" | ")
    }

    fn advance(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    fn watch(&self, watched: &str) {
        *self.world.watched.lock().unwrap() = symbols(watched);
    }

    fn asked(&self) -> Vec<Symbol> {
        std::mem::take(&mut self.world.asked.lock().unwrap())
    }

    fn hold(&self, symbol: &str) -> oneshot::Sender<()> {
        let (sender, receiver) = oneshot::channel();
        self.world.held.lock().unwrap().insert(symbol.parse().unwrap(), receiver);
        sender
    }

    fn fail(&self, symbol: &str, error: impl FnOnce(Symbol) -> MarketError) {
        let symbol: Symbol = symbol.parse().unwrap();
        self.world.errors.lock().unwrap().insert(symbol, error(symbol));
    }

    fn note(&self, symbol: &str) -> String {
        self.notes.get(symbol.parse().unwrap()).unwrap_or_default()
    }
}

#[tokio::test]
async fn each_watched_symbol_is_asked_once_a_cycle() {
    let mut test = Test::new("A B C", |options| options.batch_max = 2);
    assert_eq!(test.ready(), "A B | C");
    test.advance(119_999);
    assert_eq!(test.ready(), "");
    test.advance(1);
    assert_eq!(test.ready(), "A B | C");
    // Three cycles late is one cycle, and the next one comes an interval after its start.
    test.advance(360_000);
    assert_eq!(test.ready(), "A B | C");
    test.advance(119_999);
    assert_eq!(test.ready(), "");
    test.advance(1);
    assert_eq!(test.ready(), "A B | C");
    let line = r#"monitored_tickers{uservice="data_collector_exporter",hostname="test"} 4"#;
    assert!(test.metrics.page().contains(line));
}

#[tokio::test]
async fn a_slow_symbol_holds_no_other_up_and_is_not_asked_twice() {
    let mut test = Test::new("A B C", |_| ());
    let hold = test.hold("A");
    assert_eq!(test.ready(), "B C");
    test.advance(120_000);
    assert_eq!(test.ready(), "B C");
    assert_eq!(test.asked(), symbols("A B C B C"));
    drop(hold);
    assert_eq!(test.ready(), "A");
    test.advance(120_000);
    assert_eq!(test.ready(), "A B C");
}

#[tokio::test]
async fn no_more_are_asked_at_once_than_allowed() {
    let mut test = Test::new("A B C D", |_| ());
    let holds = ["A", "B", "C", "D"].map(|symbol| test.hold(symbol));
    assert_eq!(test.ready(), "");
    assert_eq!(test.asked(), symbols("A B"));
    drop(holds);
    assert_eq!(test.ready(), "A B C D");
}

#[tokio::test]
async fn a_new_symbol_waits_for_no_cycle_and_a_dropped_one_is_not_asked() {
    let mut test = Test::new("B", |options| options.concurrency_max = 1);
    assert_eq!(test.ready(), "B");
    test.watch("A B");
    assert_eq!(test.ready(), "");
    test.advance(5_000);
    assert_eq!(test.ready(), "A");
    test.watch("A B C");
    test.poller.handle().poke();
    assert_eq!(test.ready(), "C", "at once");
    // A cycle hangs at its first symbol: a new one is next, one that is gone is never asked.
    let hold = test.hold("A");
    test.advance(115_000);
    assert_eq!(test.ready(), "");
    test.asked();
    test.watch("A B D");
    test.poller.handle().poke();
    assert_eq!(test.ready(), "");
    drop(hold);
    assert_eq!(test.ready(), "A D B");
}

#[tokio::test]
async fn new_symbols_take_turns_with_the_others() {
    let mut test = Test::new("A B C", |options| options.concurrency_max = 1);
    let hold = test.hold("A");
    assert_eq!(test.ready(), "");
    test.watch("A B C N1 N2 N3 N4");
    test.poller.handle().poke();
    assert_eq!(test.ready(), "");
    drop(hold);
    assert_eq!(test.ready(), "A N1 B N2 C N3 N4");
}

#[tokio::test]
async fn why_there_is_no_price_is_noted_and_counted() {
    let mut test = Test::new("A B C", |_| ());
    test.fail("A", MarketError::UnknownSymbol);
    test.fail("B", |symbol| MarketError::BadPrice { symbol, reason: "found 0".to_owned() });
    test.fail("C", MarketError::NoPrice);
    assert_eq!(test.ready(), "");
    assert_eq!(test.note("A"), "the source does not know the symbol A");
    assert!(test.note("B").contains("found 0"));
    assert_eq!(test.note("C"), "", "there is room for two");
    for line in [
        r#"tripline_ticks_refused_total{reason="unknown"} 1"#,
        r#"tripline_ticks_refused_total{reason="price"} 1"#,
    ] {
        assert!(test.metrics.page().contains(line), "{line}");
    }
    test.world.errors.lock().unwrap().clear();
    test.watch("A C");
    test.fail("C", |_| MarketError::Failed("gone".to_owned()));
    test.advance(120_000);
    assert_eq!(test.ready(), "A");
    assert_eq!(["A", "B", "C"].map(|s| test.note(s)), ["", "", "the source failed: gone"]);
}

#[tokio::test]
async fn what_an_open_breaker_refused_is_asked_again_soon() {
    let mut test = Test::new("A B", |_| ());
    test.fail("A", |_| MarketError::BreakerOpen);
    assert_eq!(test.ready(), "B");
    test.world.errors.lock().unwrap().clear();
    test.advance(5_000);
    assert_eq!(test.ready(), "A");
}

#[tokio::test]
async fn a_store_that_fails_is_asked_again_soon() {
    let mut test = Test::new("A", |_| ());
    *test.world.store_fails.lock().unwrap() = true;
    assert_eq!(test.ready(), "");
    *test.world.store_fails.lock().unwrap() = false;
    test.advance(5_000);
    assert_eq!(test.ready(), "A");
}

#[tokio::test]
async fn jitter_delays_a_cycle_within_its_bound() {
    let mut test = Test::new("A", |options| options.jitter_max_ms = 10_000);
    let mut delays = Vec::new();
    assert_eq!(test.ready(), "A");
    for _ in 0..5 {
        test.advance(119_999);
        assert_eq!(test.ready(), "");
        let mut delay = 0;
        while test.ready() != "A" {
            test.advance(1);
            delay += 1;
        }
        delays.push(delay);
    }
    assert!(delays.iter().all(|delay| (1..=10_001).contains(delay)), "{delays:?}");
    assert!(delays.windows(2).any(|pair| pair[0] != pair[1]), "{delays:?}");
}

#[tokio::test]
async fn a_waiting_call_wakes_at_a_poke() {
    let mut test = Test::new("", |_| ());
    let handle = test.poller.handle();
    let world = test.world.clone();
    let mut next = test.poller.next();
    assert!(futures::poll!(&mut next).is_pending());
    *world.watched.lock().unwrap() = symbols("A");
    handle.poke();
    let Poll::Ready(Some(Ok(ticks))) = futures::poll!(&mut next) else { panic!("not woken") };
    assert_eq!(ticks[0].symbol, symbols("A")[0]);
}
