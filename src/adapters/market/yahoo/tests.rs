//! Yahoo Finance against a server that answers well, badly, slowly, or not at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::test_server::{self, Reply, chart, reply};
use super::*;
use crate::adapters::clock::{ManualClock, SeededRandom};
use crate::model::Timestamp;
use crate::pipeline::breaker::BreakerOptions;

/// A clock on which every sleep is over at once, and noted.
struct JumpingClock(ManualClock, Mutex<Vec<Duration>>);

#[async_trait]
impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.1.lock().unwrap().push(duration);
        self.0.advance(duration);
    }
}

fn good() -> Reply {
    reply("200 OK", "content-type: application/json\r\n", chart("USD", "150.10000610351562"))
}

struct Market {
    yahoo: Yahoo,
    clock: Arc<JumpingClock>,
    metrics: Metrics,
    requests: Arc<AtomicUsize>,
}

/// A source whose n-th request, from 0, with the given first line, gets what `answer` says.
async fn market(
    change: impl FnOnce(&mut YahooOptions),
    answer: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
) -> Market {
    let (address, requests) = test_server::start(answer).await;
    let mut options = YahooOptions {
        base_url: format!("http://{address}/"),
        user_agent: "tripline-test".to_owned(),
        root_ca_file: None,
        timeout_ms: 20_000,
        concurrency_max: 4,
        requests_per_s: 1_000,
        retries_max: 0,
        backoff_ms: 500,
        backoff_max_ms: 1_500,
        retry_after_max_s: 60,
        body_bytes_max: 10_000,
        redirects_max: 3,
        breaker: BreakerOptions { failures_max: 3, open_s: 20, successes_to_close: 3 },
        currency_rate: String::new(),
        currency_rate_from: String::new(),
        currency_rate_to: String::new(),
    };
    change(&mut options);
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Arc::new(JumpingClock(ManualClock::new(start), Mutex::default()));
    let metrics = Metrics::new("test");
    let random = Arc::new(SeededRandom::new(1));
    let yahoo = Yahoo::new(options, clock.clone(), random, metrics.clone()).unwrap();
    Market { yahoo, clock, metrics, requests }
}

impl Market {
    async fn ask(&self, symbol: &str) -> String {
        match self.yahoo.quote(symbol.parse().unwrap()).await {
            Ok(tick) => format!(
                "{} {} {} {}",
                tick.symbol,
                tick.time,
                tick.price,
                tick.currency.map_or("-".to_owned(), |currency| currency.to_string())
            ),
            Err(error) => error.to_string(),
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn has(&self, line: &str) {
        let page = self.metrics.page();
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }

    fn slept(&self) -> Vec<Duration> {
        std::mem::take(&mut self.clock.1.lock().unwrap())
    }
}

const GOOD: &str = "AAPL 2026-01-01T00:00:00Z 150.1 USD";
const YAHOO_PRICES: &str = r#"request_to_yf_total{uservice="data-collector",hostname="test"}"#;

/// The certificate is of an authority of our own: only whoever trusts that gets a price.
#[tokio::test]
async fn prices_come_over_tls_from_whom_the_authorities_know() {
    let (address, pem, _requests) = test_server::start_tls(|_, _| good()).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, pem).unwrap();
    let https = |options: &mut YahooOptions| {
        options.base_url = format!("https://localhost:{}", address.port());
    };
    let unknown = market(https, |_, _| good()).await.ask("AAPL").await;
    assert!(unknown.contains("invalid peer certificate: UnknownIssuer"), "{unknown}");
    let trusting = |options: &mut YahooOptions| {
        https(options);
        options.root_ca_file = Some(path);
    };
    assert_eq!(market(trusting, |_, _| good()).await.ask("AAPL").await, GOOD);
}

#[tokio::test]
async fn each_answer_is_a_price_or_says_why_it_is_none() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff";
    let not_found = r#"{"chart":{"result":null,"error":{"code":"Not Found"}}}"#;
    let json = "content-type: application/json\r\n";
    let cases: Vec<(Reply, &str)> = vec![
        (good(), GOOD),
        (reply("200 OK", json, chart("GBp", "3")), "AAPL 2026-01-01T00:00:00Z 3 GBp"),
        (reply("200 OK", json, chart("USD", "null")), "the source has no price of AAPL now"),
        (reply("200 OK", json, chart("USD", "-2")), "is refused: expected a number greater than"),
        (reply("404 Not Found", json, not_found), "does not know the symbol AAPL"),
        (reply("200 OK", json, not_found), "does not know the symbol AAPL"),
        (reply("500 Oops", "", ""), "expected status 200 for AAPL, found 500"),
        (reply("401 Unauthorized", "", ""), "expected status 200 for AAPL, found 401"),
        (reply("429 Too Many Requests", "retry-after: 7\r\n", ""), "(again in 7 s)"),
        (
            reply("429 Too Many Requests", "retry-after: Thu, 01 Jan 2026 00:01:00 GMT\r\n", ""),
            "(again in 60 s)",
        ),
        (reply("429 Too Many Requests", "retry-after: soon\r\n", ""), "(again in a while)"),
        (reply("503 Unavailable", "retry-after: 9\r\n", ""), "(again in 9 s)"),
        (reply("200 OK", "", "Too Many Requests\r\n"), "asks for fewer requests"),
        (reply("200 OK", "content-type: text/html\r\n", "<html>"), "found HTML"),
        (reply("200 OK", json, r#"{"quote":1}"#), "expected a chart as JSON"),
        (reply("200 OK", json, "x".repeat(10_001)), "at most 10000 bytes, found more"),
        (
            // It states no length, and would go on.
            Reply::Hang([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 20_000]].concat()),
            "at most 10000 bytes, found more",
        ),
        (Reply::Bytes(Vec::new()), "the source failed: "),
        (Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()), "failed: "),
        (Reply::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()), "the source failed: "),
        (reply("200 OK", "content-encoding: gzip\r\n", gzip), "the source failed: "),
        (reply("302 Found", "location: /again\r\n", ""), "too many redirects"),
    ];
    for (reply, expected) in cases {
        let market = market(|_| (), move |_, _| reply.clone()).await;
        let found = market.ask("AAPL").await;
        assert!(found.contains(expected), "expected {expected}, found {found}");
        assert!(!found.contains('\n'), "{found}");
        let prices = u8::from(found.starts_with("AAPL"));
        market.has(&format!("{YAHOO_PRICES} {prices}"));
    }
}

#[tokio::test]
async fn an_answer_may_be_packed() {
    // `gzip -n` of a chart with one close of 1.5 USD at 60 s.
    let packed = hex::decode(GZIP).unwrap();
    let market = market(
        |options| options.body_bytes_max = 150,
        move |_, _| reply("200 OK", "content-encoding: gzip\r\n", &packed),
    )
    .await;
    assert_eq!(market.ask("AAPL").await, "AAPL 1970-01-01T00:01:00Z 1.5 USD");
}

const GZIP: &str = concat!(
    "1f8b08000000000002031d8cbb0a42311005ffe5d417b9165aa4f60f2e569222ac0b06f2d0cda690",
    "b0ff6e62371c66ce00bd8228dc8070eb69d26320b386355117e1425f38dc8f1b6c83c6cc4d437e4f",
    "efbafb0db13c2305add256f0e955f97f41a9b645e7d3c59b379b2a8b54812b3d25b31ffd9af97579",
    "000000",
);

#[tokio::test]
async fn silence_and_a_slow_drip_end_with_the_timeout() {
    for start in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
        let answer = move |_: usize, _: &str| Reply::Hang(start.as_bytes().to_vec());
        let market = market(|options| options.timeout_ms = 50, answer).await;
        let found = market.ask("AAPL").await;
        assert_eq!(found, "the source failed: expected an answer within 50 ms, found none");
    }
}

#[tokio::test]
async fn a_symbol_is_one_part_of_the_path() {
    for (symbol, part) in [
        ("^GSPC", "%5EGSPC"),
        ("M&M.NS", "M%26M.NS"),
        ("BTC-USD", "BTC-USD"),
        ("EURUSD=X", "EURUSD%3DX"),
        ("A/../B", "A%2F..%2FB"),
    ] {
        let expected = format!("GET /v8/finance/chart/{part}?range=1d&interval=1m HTTP/1.1");
        let answer = move |_: usize, line: &str| {
            assert_eq!(line, expected);
            good()
        };
        let market = self::market(|_| (), answer).await;
        assert!(market.ask(symbol).await.starts_with(symbol), "{symbol}");
    }
    let market = self::market(|_| (), |_, _| good()).await;
    assert!(market.ask("..").await.contains("does not know the symbol"));
    assert_eq!(market.requests(), 0);
}

#[tokio::test]
async fn a_failure_is_repeated_after_waits_that_double() {
    let answer = |n, _: &str| if n < 4 { reply("500 Oops", "", "") } else { good() };
    let change = |options: &mut YahooOptions| {
        options.retries_max = 4;
        options.breaker.failures_max = 9;
    };
    let market = market(change, answer).await;
    assert_eq!(market.ask("AAPL").await, GOOD);
    let slept = market.slept();
    for (slept, most) in slept.iter().zip([500, 1_000, 1_500, 1_500]) {
        let most = Duration::from_millis(most);
        assert!((most / 2..=most).contains(slept), "{slept:?} of {most:?}");
    }
    assert_eq!((slept.len(), market.requests()), (4, 5));
    market.has(r#"tripline_retries_total{stage="collect"} 4"#);
}

#[tokio::test]
async fn what_the_source_says_of_a_symbol_is_not_repeated_and_opens_nothing() {
    let answer = |n, _: &str| match n % 3 {
        0 => reply("404 Not Found", "", ""),
        1 => reply("200 OK", "", chart("USD", "null")),
        _ => reply("200 OK", "", chart("USD", "0")),
    };
    let market = market(|options| options.retries_max = 3, answer).await;
    for n in 1..=9 {
        market.ask("AAPL").await;
        assert_eq!(market.requests(), n);
    }
    market.has(r#"tripline_breaker_open{peer="market"} 0"#);
}

#[tokio::test]
async fn nothing_leaves_while_the_source_asks_to_be_left_alone() {
    for (header, seconds) in [
        ("retry-after: 7", 7),
        ("retry-after: Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("retry-after: Thu, 01 Jan 2025 00:00:00 GMT", 0),
        ("retry-after: 99999999999", 60),
    ] {
        let answer = move |n, _: &str| match n {
            0 => reply("429 Too Many Requests", &format!("{header}\r\n"), ""),
            _ => good(),
        };
        let market = market(|_| (), answer).await;
        market.ask("AAPL").await;
        assert!(market.slept().is_empty());
        assert_eq!(market.ask("MSFT").await, GOOD.replace("AAPL", "MSFT"), "{header}");
        let slept: Duration = market.slept().iter().sum();
        assert_eq!(slept.as_secs(), seconds, "{header}");
    }
}

#[tokio::test]
async fn requests_leave_evenly() {
    let market = market(|options| options.requests_per_s = 4, |_, _| good()).await;
    for _ in 0..3 {
        market.ask("AAPL").await;
    }
    assert_eq!(market.slept(), [Duration::from_millis(250); 2]);
}

#[tokio::test]
async fn the_breaker_opens_after_three_failures_and_closes_after_three_successes() {
    let answer = |n, _: &str| if n < 3 { reply("200 OK", "", "<html>") } else { good() };
    let market = market(|options| options.retries_max = 9, answer).await;
    assert!(market.ask("AAPL").await.contains("found HTML"), "not that the breaker is open");
    assert_eq!(market.requests(), 3);
    market.has(r#"tripline_breaker_open{peer="market"} 2"#);
    market.clock.0.advance(Duration::from_secs(18));
    assert!(market.ask("AAPL").await.contains("circuit breaker is open"));
    assert_eq!(market.requests(), 3);
    market.clock.0.advance(Duration::from_secs(2));
    for state in [1, 1, 0] {
        assert_eq!(market.ask("AAPL").await, GOOD);
        market.has(&format!(r#"tripline_breaker_open{{peer="market"}} {state}"#));
    }
    market.has(&format!("{YAHOO_PRICES} 3"));
}

#[tokio::test]
async fn what_waits_when_the_breaker_opens_is_not_sent() {
    let market = market(|_| (), |_, _| reply("500 Oops", "", "")).await;
    let found = futures::future::join_all((0..20).map(|_| market.ask("AAPL"))).await;
    let refused = found.iter().filter(|error| error.contains("circuit breaker is open")).count();
    assert_eq!(refused + market.requests(), 20);
    // Three failures open it, and no more than the other three were on their way by then.
    assert!((3..=6).contains(&market.requests()), "{}", market.requests());
}

#[tokio::test]
async fn a_probe_that_is_given_up_lets_the_next_one_through() {
    let answer = |n, _: &str| match n {
        0..3 => reply("500 Oops", "", ""),
        3 => Reply::Hang(Vec::new()),
        _ => good(),
    };
    let market = market(|_| (), answer).await;
    for _ in 0..3 {
        market.ask("AAPL").await;
    }
    market.clock.0.advance(Duration::from_secs(20));
    let probe = market.ask("AAPL");
    let asked = async {
        while market.requests() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = probe => panic!("the server never answers"),
        () = asked => {}
    }
    assert_eq!(market.ask("AAPL").await, GOOD);
}

#[tokio::test]
async fn at_most_so_many_are_asked_at_once() {
    let market =
        market(|options| options.concurrency_max = 2, |_, _| Reply::Hang(Vec::new())).await;
    let asks = ["A", "B", "C"].map(|symbol| market.ask(symbol));
    let mut asks = std::pin::pin!(futures::future::join_all(asks));
    while market.requests() < 2 {
        assert!(futures::poll!(&mut asks).is_pending());
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        assert!(futures::poll!(&mut asks).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(market.requests(), 2);
}

#[tokio::test]
async fn a_fixed_rate_converts_the_currency_that_it_is_of() {
    let change = |options: &mut YahooOptions| {
        options.currency_rate = "0.9".to_owned();
        options.currency_rate_from = "USD".to_owned();
        options.currency_rate_to = "EUR".to_owned();
    };
    let answer = |n, _: &str| reply("200 OK", "", chart(["USD", "GBp"][n], "101.5"));
    let market = market(change, answer).await;
    assert!(market.ask("AAPL").await.ends_with(" 91.35 EUR"));
    assert!(market.ask("AAPL").await.ends_with(" 101.5 GBp"));
}

#[tokio::test]
async fn options_out_of_range_are_named() {
    type Change = fn(&mut YahooOptions);
    let cases: [(Change, &str); 6] = [
        (|o| o.base_url = "ftp://x".to_owned(), "market.yahoo.base_url: expected a URL such as"),
        (|o| o.base_url = "yahoo".to_owned(), "found \"yahoo\""),
        (|o| o.timeout_ms = 0, "market.yahoo.timeout_ms: expected at least 1, found 0"),
        (|o| o.requests_per_s = 1_001, "expected at most 1000, found 1001"),
        (|o| o.currency_rate = "0.9".to_owned(), "market.yahoo.currency_rate_from: expected"),
        (|o| o.currency_rate_to = "EUR".to_owned(), "market.yahoo.currency_rate: expected"),
    ];
    for (change, expected) in cases {
        let mut options = None;
        drop(market(|o| options = Some(o.clone()), |_, _| good()).await);
        let mut options = options.unwrap();
        change(&mut options);
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let random = Arc::new(SeededRandom::new(1));
        let error = Yahoo::new(options, clock, random, Metrics::new("test")).err().unwrap();
        assert!(error.to_string().contains(expected), "expected {expected}, found {error}");
    }
}
