//! The contract of the sources' ports, run by every adapter through one line.
//!
//! `Quotes` is asked for a price: Yahoo Finance (a local server in its place) and the simulation.
//! `TickStream` sends prices of its own accord: a file, and the poller over the simulation.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::adapters::market::{
    Replay, ReplayOptions, Simulated, SimulatedOptions, Speed, Yahoo, YahooOptions,
};
use tripline::metrics::Metrics;
use tripline::model::{Symbol, Tick, Timestamp};
use tripline::pipeline::breaker::BreakerOptions;
use tripline::pipeline::collect::{
    CollectStore, MarketError, Poller, PollerOptions, PollerPorts, Quotes, SymbolNotes, TickStream,
};
use tripline::pipeline::store::StoreError;

const SYMBOLS: [&str; 6] = ["AAPL", "BRK-B", "^GSPC", "EURUSD=X", "A", "MSFT"];

macro_rules! quotes_contract {
    ($($adapter:ident: $quotes:expr),+ $(,)?) => {$(
        mod $adapter {
            #[tokio::test]
            async fn a_quote_is_of_the_symbol_asked_for() {
                crate::a_quote_is_of_the_symbol_asked_for(&*$quotes.await).await;
            }

            #[tokio::test]
            async fn the_time_of_a_symbol_never_goes_back() {
                crate::the_time_of_a_symbol_never_goes_back(&*$quotes.await).await;
            }

            #[tokio::test]
            async fn answers_to_calls_side_by_side_are_not_mixed_up() {
                crate::answers_to_calls_side_by_side_are_not_mixed_up(&*$quotes.await).await;
            }

            #[tokio::test]
            async fn a_cancelled_call_is_in_nobodys_way() {
                crate::a_cancelled_call_is_in_nobodys_way(&*$quotes.await).await;
            }
        }
    )+};
}

quotes_contract! {
    yahoo: crate::yahoo(),
    simulated: crate::simulated(),
}

macro_rules! stream_contract {
    ($($adapter:ident: $stream:expr),+ $(,)?) => {$(
        mod $adapter {
            #[tokio::test]
            async fn ticks_of_a_symbol_come_in_order() {
                let (mut stream, _kept) = $stream.await;
                crate::ticks_of_a_symbol_come_in_order(&mut *stream).await;
            }

            #[tokio::test]
            async fn a_cancelled_call_loses_nothing() {
                let (mut stream, _kept) = $stream.await;
                let (mut whole, _kept_too) = $stream.await;
                crate::a_cancelled_call_loses_nothing(&mut *stream, &mut *whole).await;
            }
        }
    )+};
}

stream_contract! {
    replay: crate::replay(),
    poller: crate::poller(),
}

fn symbol(text: &str) -> Symbol {
    text.parse().unwrap()
}

/// Fails a test that hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer within 20 s")
}

async fn a_quote_is_of_the_symbol_asked_for(quotes: &dyn Quotes) {
    for name in SYMBOLS {
        let tick = soon(quotes.quote(symbol(name))).await.unwrap();
        assert_eq!(tick.symbol, symbol(name));
    }
}

async fn the_time_of_a_symbol_never_goes_back(quotes: &dyn Quotes) {
    let mut last = Timestamp::MIN;
    for _ in 0..5 {
        let tick = soon(quotes.quote(symbol("AAPL"))).await.unwrap();
        assert!(tick.time >= last);
        last = tick.time;
    }
}

async fn answers_to_calls_side_by_side_are_not_mixed_up(quotes: &dyn Quotes) {
    let asked = SYMBOLS.iter().cycle().take(24).map(|name| symbol(name));
    let asked: Vec<Symbol> = asked.collect();
    let calls = asked.iter().map(|symbol| quotes.quote(*symbol));
    let ticks = soon(futures::future::try_join_all(calls)).await.unwrap();
    let found: Vec<Symbol> = ticks.iter().map(|tick| tick.symbol).collect();
    assert_eq!(found, asked);
}

async fn a_cancelled_call_is_in_nobodys_way(quotes: &dyn Quotes) {
    for _ in 0..20 {
        // Dropped while it waits, if it does.
        let _ = quotes.quote(symbol("MSFT")).now_or_never();
    }
    let tick = soon(quotes.quote(symbol("AAPL"))).await.unwrap();
    assert_eq!(tick.symbol, symbol("AAPL"));
}

/// Ticks that a check looks at.
const TICKS: usize = 60;

async fn ticks_of_a_symbol_come_in_order(stream: &mut dyn TickStream) {
    let mut last: HashMap<Symbol, Timestamp> = HashMap::new();
    let mut seen = 0;
    while seen < TICKS {
        let ticks = soon(stream.next()).await.expect("more ticks").unwrap();
        assert!(!ticks.is_empty());
        for tick in ticks {
            let before = last.insert(tick.symbol, tick.time);
            assert!(before.is_none_or(|before| before < tick.time), "{tick:?}");
            seen += 1;
        }
    }
}

async fn a_cancelled_call_loses_nothing(stream: &mut dyn TickStream, whole: &mut dyn TickStream) {
    let mut hurried: HashMap<Symbol, Vec<Tick>> = HashMap::new();
    let mut seen = 0;
    soon(async {
        while seen < TICKS {
            let next = match stream.next().now_or_never() {
                Some(next) => next,
                None => {
                    // What it waits for gets its turn.
                    tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>())
                        .await
                        .unwrap_err();
                    continue;
                }
            };
            for tick in next.expect("more ticks").unwrap() {
                hurried.entry(tick.symbol).or_default().push(tick);
                seen += 1;
            }
        }
    })
    .await;
    let mut calm: HashMap<Symbol, Vec<Tick>> = HashMap::new();
    while calm.values().map(Vec::len).sum::<usize>() < 2 * TICKS {
        let Some(ticks) = soon(whole.next()).await else { break };
        for tick in ticks.unwrap() {
            calm.entry(tick.symbol).or_default().push(tick);
        }
    }
    for (symbol, ticks) in &hurried {
        let prices = |ticks: &[Tick]| ticks.iter().map(|tick| tick.price).collect::<Vec<_>>();
        let common = ticks.len().min(calm[symbol].len());
        assert_eq!(prices(&ticks[..common]), prices(&calm[symbol][..common]), "{symbol}");
    }
}

/// What only a file has: an end, and rows that are wrong.
#[tokio::test]
async fn a_file_ends_and_a_wrong_row_is_named() {
    let text = "time,symbol,price\n2000-01-03T10:00:00Z,A,1\n2000-01-04T10:00:00Z,A,-1\n2000-01-05T10:00:00Z,A,2\n";
    let (mut stream, _dir) = replay_of(text);
    let mut told = Vec::new();
    while let Some(next) = soon(stream.next()).await {
        match next {
            Ok(ticks) => told.extend(ticks.iter().map(|tick| tick.price.to_string())),
            Err(error @ MarketError::BadRow(_)) => told.push(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((told.len(), told[0].as_str(), told[2].as_str()), (3, "1", "2"), "{told:?}");
    assert!(told[1].contains(":3:"), "{told:?}");
    assert!(soon(stream.next()).await.is_none(), "an end stays one");
}

async fn simulated() -> Arc<dyn Quotes> {
    let options = SimulatedOptions { seed: 7, interval_ms: 1, volatility: 0.01, symbols_max: 100 };
    Arc::new(Simulated::new(options, Arc::new(SystemClock)).unwrap())
}

/// Yahoo Finance, for which a local server stands in.
async fn yahoo() -> Arc<dyn Quotes> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let options = YahooOptions {
        base_url: format!("http://{address}"),
        user_agent: "tripline-test".to_owned(),
        root_ca_file: None,
        timeout_ms: 10_000,
        concurrency_max: 4,
        requests_per_s: 1_000,
        retries_max: 0,
        backoff_ms: 10,
        backoff_max_ms: 10,
        retry_after_max_s: 1,
        body_bytes_max: 10_000,
        redirects_max: 0,
        breaker: BreakerOptions { failures_max: 3, open_s: 20, successes_to_close: 3 },
        currency_rate: String::new(),
        currency_rate_from: String::new(),
        currency_rate_to: String::new(),
    };
    let random = Arc::new(SeededRandom::new(1));
    Arc::new(Yahoo::new(options, Arc::new(SystemClock), random, Metrics::new("test")).unwrap())
}

/// One close, whatever is asked for.
async fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let body = r#"{"chart":{"result":[{"meta":{"currency":"USD"},"timestamp":[1767225600],
        "indicators":{"quote":[{"close":[150.5]}]}}],"error":null}}"#;
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    // Whoever was cancelled has hung up.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

fn replay_of(text: &str) -> (Box<dyn TickStream>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ticks.csv");
    std::fs::write(&path, text).unwrap();
    let options = ReplayOptions { path, speed: Speed::Max, batch_max: 7 };
    (Box::new(Replay::open(options, Arc::new(SystemClock)).unwrap()), dir)
}

async fn replay() -> (Box<dyn TickStream>, TempDir) {
    let mut text = "time,symbol,price\n".to_owned();
    for n in 0..2 * TICKS {
        let (minute, second) = (n / 60, n % 60);
        writeln!(text, "2000-01-03T10:{minute:02}:{second:02}Z,{},{}", ["A", "B"][n % 2], n + 1)
            .unwrap();
    }
    replay_of(&text)
}

struct Watched;

#[async_trait]
impl CollectStore for Watched {
    async fn watched(&self) -> Result<Vec<Symbol>, StoreError> {
        Ok(vec![symbol("AAPL"), symbol("MSFT")])
    }

    async fn watched_count(&self) -> Result<u64, StoreError> {
        Ok(2)
    }

    async fn note_symbols(&self, _: &[(Symbol, Option<String>)]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forget_notes(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

async fn poller() -> (Box<dyn TickStream>, ()) {
    let ports = PollerPorts {
        quotes: simulated().await,
        store: Arc::new(Watched),
        clock: Arc::new(SystemClock),
        random: Arc::new(SeededRandom::new(1)),
        metrics: Metrics::new("test"),
        notes: SymbolNotes::new(10),
    };
    let options = PollerOptions {
        interval_ms: 2,
        jitter_max_ms: 0,
        reread_ms: 1_000,
        concurrency_max: 2,
        batch_max: 10,
    };
    (Box::new(Poller::new(ports, options)), ())
}
