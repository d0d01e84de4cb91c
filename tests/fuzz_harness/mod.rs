//! What the fuzz targets do with some bytes, and what must hold whatever the bytes are. Shared
//! by `fuzz/` (libFuzzer, on nightly) and `tests/fuzz_smoke.rs` (seeded, on stable).

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tripline::adapters::mailer::SmtpUrl;
use tripline::config::{self, Flag, Sources};
use tripline::csv_input::{ReadError, Row, Ticks, Watches};
use tripline::fuzzing;
use tripline::model::{
    AlertId, Currency, Decimal, Email, Policy, PolicyKind, Price, Symbol, Timestamp, WatchSpec,
};
use tripline::pipeline::broker::Record;
use tripline::pipeline::record::{
    ALERTS_TOPIC, TICKS_TOPIC, decode_alert, decode_tick, encode_alert, encode_tick, schema_header,
};
use tripline::proto::v1;

/// A reader of outside bytes.
pub struct Target {
    /// Its name, which is that of its file in `fuzz/fuzz_targets/`.
    pub name: &'static str,
    /// Reads some bytes; panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 13] = [
    Target { name: "decimals", run: decimals, seeds: decimal_seeds },
    Target { name: "floats", run: floats, seeds: float_seeds },
    Target { name: "timestamps", run: timestamps, seeds: timestamp_seeds },
    Target { name: "names", run: names, seeds: name_seeds },
    Target { name: "alert_ids", run: alert_ids, seeds: alert_id_seeds },
    Target { name: "ticks_csv", run: ticks_csv, seeds: ticks_csv_seeds },
    Target { name: "watches_csv", run: watches_csv, seeds: watches_csv_seeds },
    Target { name: "records", run: records, seeds: record_seeds },
    Target { name: "broker_batches", run: broker_batches, seeds: batch_seeds },
    Target { name: "yahoo_answers", run: yahoo_answers, seeds: yahoo_seeds },
    Target { name: "settings", run: settings, seeds: settings_seeds },
    Target { name: "urls_and_headers", run: urls_and_headers, seeds: url_seeds },
    Target { name: "api_fields", run: api_fields, seeds: api_seeds },
];

/// What is printed is read as the same again.
fn round_trip<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(value: &T) {
    let text = value.to_string();
    assert_eq!(&text.parse::<T>().expect("what was printed can be read"), value, "{text:?}");
}

/// What a message says of bad input is one line of a bounded length.
fn check_message(message: &dyn Display) {
    let text = message.to_string();
    assert!(!text.is_empty() && text.len() <= 4_096, "{} bytes: {text:.200}", text.len());
    assert!(!text.contains(['\n', '\r', '\u{1b}']), "{text:?}");
}

fn check<T: FromStr<Err: Display + Debug> + Display + PartialEq + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => round_trip(&value),
        // Fields are bounded before they are read; texts are shown no further than that.
        Err(error) if text.len() <= 254 => check_message(&error),
        Err(_) => {}
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Prices and price distances as text.
pub fn decimals(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<Decimal>(text);
    check::<Price>(text);
    if let Ok(price) = text.parse::<Price>() {
        assert_eq!(Price::mean([price; 3]), Some(price));
        assert_eq!(Price::from_units(price.units()), Some(price));
        for rate in [Price::MIN, Price::MAX, price] {
            if let Ok(product) = price.times(rate) {
                round_trip(&product);
            }
        }
    }
}

fn decimal_seeds() -> Vec<Vec<u8>> {
    texts(&["102.00", "0.00000001", "9999999999.99999999", "0", "-1", "1e3", "00000000001", ".5"])
}

/// Prices as floats: the first eight bytes are one of 64 bits, the first four one of 32.
pub fn floats(data: &[u8]) {
    if let Some(bits) = data.first_chunk() {
        let value = f64::from_le_bytes(*bits);
        match Price::from_f64(value) {
            Ok(price) => {
                round_trip(&price);
                let off = (price.to_string().parse::<f64>().unwrap_or(f64::NAN) - value).abs();
                // Half of the last place, and what a float of 32 bits does not hold.
                assert!(off <= 5.1e-9 + value * 1e-7, "{value} was read as {price}");
            }
            Err(error) => check_message(&error),
        }
    }
    if let Some(bits) = data.first_chunk() {
        let value = f32::from_le_bytes(*bits);
        match fuzzing::legacy_threshold(value) {
            Ok(None) => assert!(value.to_bits() == (-1.0f32).to_bits()),
            Ok(Some(price)) => {
                round_trip(&price);
                // A client may send back what it was shown.
                assert_eq!(fuzzing::legacy_threshold(price.to_f32()), Ok(Some(price)), "{value}");
            }
            Err(error) => check_message(&error),
        }
    }
}

fn float_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [150.1, 0.3, 1.0 / 512.0, 1e-9, 0.0, -1.0, 1e10, 1e300]
        .map(|value: f64| value.to_le_bytes().to_vec())
        .into();
    seeds
        .extend([150.1, -1.0, 0.123_456_79, 1e-8, f32::NAN].map(|v: f32| v.to_le_bytes().to_vec()));
    seeds
}

/// Times, as text and as milliseconds.
pub fn timestamps(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check::<Timestamp>(text);
    }
    if let Some(bits) = data.first_chunk()
        && let Some(time) = Timestamp::from_millis(i64::from_le_bytes(*bits) >> 16)
    {
        round_trip(&time);
        assert!(time.plus(Duration::MAX) == Timestamp::MAX && time.since(time).is_zero());
    }
}

fn timestamp_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "2000-03-01T14:30:00Z",
        "2000-03-01t14:30:00.05+01:30",
        "1969-12-31T23:59:59.999z",
        "0000-01-01T00:00:00-23:59",
        "9999-12-31T23:59:59.999Z",
        "2000-02-30T00:00:00.0000Z",
    ])
}

/// Symbols, currencies and e-mail addresses.
pub fn names(data: &[u8]) {
    if let Ok(symbol) = Symbol::from_bytes(data) {
        assert_eq!(symbol.as_bytes(), data.to_ascii_uppercase());
        assert_eq!(Symbol::from_bytes(symbol.as_bytes()), Ok(symbol));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<Symbol>(text);
    check::<Currency>(text);
    if let Ok(email) = text.parse::<Email>() {
        round_trip(&email);
        assert_eq!(email.as_str(), text);
        // Both spellings are one account; a letter may be longer in lower case.
        if email.folded().len() <= 254 {
            let folded: Email = email.folded().parse().expect("a folded address is one");
            assert_eq!(folded, email);
        }
    }
}

fn name_seeds() -> Vec<Vec<u8>> {
    texts(&["M&M.NS", "^gspc", "BTC-USD", "GBp", "Ann@example.com", "ΑΣ@İ.org", "a b@c", "@"])
}

/// Alert ids: the bytes of a page token as well.
pub fn alert_ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<AlertId>(text);
}

fn alert_id_seeds() -> Vec<Vec<u8>> {
    texts(&["17-1-951921000000-above", "1-4294967295--1-below", "--", "1-1-1-beyond"])
}

/// Items of a file that has no quotes: as many as lines with text below the header's.
fn check_items<T>(data: &[u8], items: &[Result<Row<T>, ReadError>]) {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let mut before = 1;
    for item in items {
        let line = match item {
            Ok(row) => row.line,
            Err(ReadError::Row(error)) => error.line,
            Err(error) => panic!("bytes in memory can be read: {error}"),
        };
        assert!(line > before, "line {line} after line {before}");
        before = line;
        if let Err(error) = item {
            check_message(error);
            assert!(error.to_string().starts_with(&format!("f.csv:{line}: ")), "{error}");
        }
    }
    if !data.contains(&b'"') {
        let lines = data.split(|byte| *byte == b'\n');
        let texts = lines.filter(|line| !line.strip_suffix(b"\r").unwrap_or(line).is_empty());
        assert_eq!(items.len() + 1, texts.count(), "a line was dropped");
    }
}

/// Files of ticks.
pub fn ticks_csv(data: &[u8]) {
    let ticks = match Ticks::new("f.csv", data) {
        Ok(ticks) => ticks,
        Err(error) => return check_message(&error),
    };
    let items: Vec<_> = ticks.collect();
    check_items(data, &items);
    let mut copy = String::from("symbol,price,time\n");
    let good: Vec<_> = items.iter().flatten().map(|row| row.value).collect();
    for tick in &good {
        copy += &format!("{},{},{}\n", tick.symbol, tick.price, tick.time);
    }
    let again = Ticks::new("f.csv", copy.as_bytes()).expect("the header is good");
    let again: Vec<_> = again.map(|row| row.expect("what was printed can be read").value).collect();
    assert_eq!(again, good);
}

fn ticks_csv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "time,symbol,price\n2000-03-01T14:30:00Z,a,1.50\n2000-03-01T14:30:01Z,B/C,2",
        "\u{feff}\"price\",time,symbol\r\n\r\n\"1\",2000-03-01T15:30:00+01:00,\"A\"\r\n1,2,3,4\r\n",
        "time,symbol,price\n2000-03-01T14:30:00Z,\"A\n\"\"\",1\n2000-03-01T14:30:00Z,A,0\n\"",
        "time,symbol,Prise\n",
    ])
}

/// Files of watches.
pub fn watches_csv(data: &[u8]) {
    let watches = match Watches::new("f.csv", data, PolicyKind::Step) {
        Ok(watches) => watches,
        Err(error) => return check_message(&error),
    };
    let items: Vec<_> = watches.collect();
    check_items(data, &items);
    let good: Vec<_> = items.into_iter().flatten().map(|row| row.value).collect();
    let mut copy = String::from("email,symbol,low,high,policy,step,hysteresis,cooldown\n");
    for (email, spec) in &good {
        let [low, high, policy, step, hysteresis, cooldown] = spec_texts(spec);
        let email = email.as_str().replace('"', "\"\"");
        let symbol = spec.symbol();
        copy +=
            &format!("\"{email}\",{symbol},{low},{high},{policy},{step},{hysteresis},{cooldown}\n");
    }
    let again = Watches::new("f.csv", copy.as_bytes(), PolicyKind::Once);
    let again = again.expect("the header is good");
    let again: Vec<_> = again.map(|row| row.expect("what was printed can be read").value).collect();
    assert_eq!(again, good);
}

fn watches_csv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "email,symbol,low,high\nAnn@x.org,aapl,1,2\nb@x,A,,\n",
        "cooldown,hysteresis,step,policy,high,low,symbol,email\n60,0.5,5,crossing,2,1,A,a@x\n\
         ,0,5,step,2,1,A,a@x\n010,9,9,once,2,,A,a@x\n,,0.1,,,1,A,\"a,\"\"@x\"\n",
        "email,symbol,low,high,policy\na@x,A,2,1,Step\na@x,A,2.0,2,step\n",
    ])
}

fn spec_texts(spec: &WatchSpec) -> [String; 6] {
    let text = |price: Option<Price>| price.map(|price| price.to_string()).unwrap_or_default();
    let (step, hysteresis) = match spec.policy() {
        Policy::Crossing { hysteresis } => (String::new(), hysteresis.to_string()),
        Policy::Step { step } => (step.to_string(), String::new()),
        Policy::Once => (String::new(), String::new()),
    };
    let (low, high) = (text(spec.low()), text(spec.high()));
    let policy = spec.policy().kind().to_string();
    [low, high, policy, step, hysteresis, spec.cooldown_s().to_string()]
}

/// Records between nodes: a byte for the topic, the key's length, the key, the value.
pub fn records(data: &[u8]) {
    let [which, length, rest @ ..] = data else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    let topic = if which % 2 == 0 { TICKS_TOPIC } else { ALERTS_TOPIC };
    let record = Record {
        key: (which % 8 < 6).then(|| Bytes::copy_from_slice(key)),
        value: Bytes::copy_from_slice(value),
        headers: schema_header(topic).into_iter().collect(),
        time: Timestamp::default(),
    };
    match decode_tick(&record) {
        Ok(tick) => assert_eq!(decode_tick(&encode_tick(&tick, record.time)), Ok(tick)),
        Err(error) => check_message(&error),
    }
    match decode_alert(&record) {
        Ok((alert, accepted)) => {
            round_trip(&alert.id);
            let again = encode_alert(&alert, accepted, record.time);
            assert_eq!(decode_alert(&again), Ok((alert, accepted)));
        }
        Err(error) => check_message(&error),
    }
}

fn record_seeds() -> Vec<Vec<u8>> {
    let tick = tripline::proto::records::Tick {
        time_ms: 951_921_000_000,
        price: 11_856_000_000,
        currency: "GBp".to_owned(),
        market: tripline::proto::records::MarketState::Regular.into(),
    };
    let alert = tripline::proto::records::Alert {
        watch_id: 17,
        version: 3,
        time_ms: 951_921_000_000,
        condition: 1,
        user_id: 9,
        price: 1,
        threshold: u64::MAX >> 5,
        accepted_ms: -1,
    };
    let record = |which: u8, value: Vec<u8>| [&[which, 4][..], b"AAPL", &value].concat();
    vec![record(0, tick.encode_to_vec()), record(1, alert.encode_to_vec()), record(6, Vec::new())]
}

/// Batches of an embedded log.
pub fn broker_batches(data: &[u8]) {
    let mut body = Bytes::copy_from_slice(data);
    let mut read = Vec::new();
    while let Some(record) = fuzzing::batch_record(&mut body) {
        read.push(record);
    }
    let encoded = fuzzing::batch_of(&read);
    assert!(data.starts_with(&encoded), "there is one way to encode {read:?}");
}

fn batch_seeds() -> Vec<Vec<u8>> {
    let record = |key: Option<&'static [u8]>, value: &'static [u8]| Record {
        key: key.map(Bytes::from_static),
        value: Bytes::from_static(value),
        headers: vec![("schema".to_owned(), Bytes::from_static(b"tick"))],
        time: Timestamp::MAX,
    };
    let bare = Record { headers: Vec::new(), ..record(None, b"") };
    vec![
        fuzzing::batch_of(&[record(Some(b"AAPL"), b"190.5"), bare.clone()]).to_vec(),
        fuzzing::batch_of(&[bare]).to_vec(),
        Vec::new(),
    ]
}

/// Answers of Yahoo Finance.
pub fn yahoo_answers(data: &[u8]) {
    let symbol: Symbol = "AAPL".parse().expect("a symbol");
    match fuzzing::yahoo_answer(symbol, data) {
        Ok(tick) => {
            assert_eq!((tick.symbol, tick.time.millis() % 1_000), (symbol, 0));
            round_trip(&tick.price);
        }
        Err(error) => check_message(&error),
    }
}

fn yahoo_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"chart":{"result":[{"meta":{"currency":"USD","regularMarketPrice":7.5,
        "regularMarketTime":99},"timestamp":[60,120],"indicators":{"quote":[{"close":
        [1.5,150.10000610351562],"volume":[1]}]}}],"error":null}}"#,
        r#"{"chart":{"result":[{"meta":{"currency":"GBp"},"timestamp":[60],"indicators":
        {"quote":[{"close":[null]}]}}],"error":null}}"#,
        r#"{"chart":{"result":null,"error":{"code":"Not Found","description":"No data"}}}"#,
        r#"{"chart":{"result":[{"meta":{},"timestamp":[9],"indicators":{"quote":[{"close":
        ["NaN"]}]}}]}}"#,
        "<html><h1>429 Too Many Requests",
    ])
}

/// Settings: a file, and its text as a variable and as a flag.
pub fn settings(data: &[u8]) {
    // The text of such an option is that of any file, even of one that never ends.
    if data.to_ascii_lowercase().windows(5).any(|part| part == b"_file") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tripline.toml");
    std::fs::write(&file, data).expect("a file");
    let mut sources = Sources { file: Some(file), ..Sources::default() };
    let faults = |sources: &Sources| {
        if let Err(errors) = config::load(sources) {
            assert!(!errors.0.is_empty());
            errors.0.iter().for_each(|error| check_message(error));
        }
    };
    faults(&sources);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((key, value)) = text.split_once('=') else { return };
    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
    std::fs::write(sources.file.as_ref().expect("set above"), "").expect("a file");
    sources.environment =
        vec![(format!("TRIPLINE__{}", key.replace('.', "__")).into(), value.clone().into())];
    sources.flags = vec![Flag { name: "--set".to_owned(), key, value }];
    faults(&sources);
}

fn settings_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "server.grpc.listen = \"127.0.0.1:0\"",
        "[deliver]\nretry_delays_s = [10, 0x3c, 600]\nbatch_max = 10\n[mail.smtp]\nfrom = \"x\"\n",
        "[market.simulated]\nvolatility = 0.5 # much\n[legacy]\nauthorisation = 'open'\n",
        "[evaluate]\nflush_msec = 1\nread_bytes_max = -1\ntable = { a = 1979-05-27 }\n",
        "[[graph]]\nroles = \"all\"\n[graph]\nroles = \"\"\"\nserver\\u0007\"\"\"",
        "graph.roles=server, evaluator",
        "market.source=replay=t.csv@60",
    ])
}

/// URLs of mail servers, and headers of calls and answers.
pub fn urls_and_headers(data: &[u8]) {
    let now = Timestamp::default();
    let _ = fuzzing::retry_after(data, now);
    let _ = fuzzing::grpc_timeout(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<SmtpUrl>() {
        Ok(url) => {
            assert!(!url.host.is_empty() && url.port > 0);
            check_message(&url);
            match &url.credentials {
                None => round_trip(&url),
                Some((user, password)) => {
                    assert!(!user.chars().chain(password.chars()).any(char::is_control));
                }
            }
        }
        Err(error) => check_message(&error),
    }
}

fn url_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "smtp://ann%40x.org:s%3Acret@mail.example.com:25",
        "smtps://[::1]:465/",
        "SMTP://localhost",
        "smtp://u:p@[::1",
        "120",
        "18446744073709551615",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "99999999H",
        "2000000u",
    ])
}

/// Fields of requests: the bytes as a message, and as a text.
pub fn api_fields(data: &[u8]) {
    if let Ok(request) = v1::CreateWatchRequest::decode(data) {
        match fuzzing::watch_spec(&request) {
            Ok(spec) => {
                let [low, high, _, step, hysteresis, _] = spec_texts(&spec);
                let policy = match spec.policy().kind() {
                    PolicyKind::Crossing => v1::Policy::Crossing,
                    PolicyKind::Step => v1::Policy::Step,
                    PolicyKind::Once => v1::Policy::Once,
                };
                let again = v1::CreateWatchRequest {
                    symbol: spec.symbol().to_string(),
                    low,
                    high,
                    policy: policy.into(),
                    step,
                    hysteresis,
                    cooldown_seconds: spec.cooldown_s(),
                };
                assert_eq!(fuzzing::watch_spec(&again), Ok(spec));
            }
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
    }
    if let Ok(input) = v1::TickInput::decode(data) {
        match fuzzing::tick(&input) {
            Ok(tick) => {
                let again = v1::TickInput {
                    symbol: tick.symbol.to_string(),
                    time: tick.time.to_string(),
                    price: tick.price.to_string(),
                    currency: tick.currency.map(|code| code.to_string()).unwrap_or_default(),
                };
                assert_eq!(fuzzing::tick(&again), Ok(tick));
            }
            Err((kind, reason)) => assert!(!kind.is_empty() && !reason.is_empty()),
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match fuzzing::dead_letter_id(text) {
        Ok(id) => {
            assert_eq!(fuzzing::dead_letter_id(&fuzzing::dead_letter_text(id)), Ok(id));
        }
        Err(refusal) => check_message(&refusal),
    }
    if let Err(refusal) = fuzzing::page_token::<AlertId>(text) {
        check_message(&refusal);
    }
    match fuzzing::page_token::<u64>(text) {
        Ok(number) => assert_eq!(number.is_none(), text.is_empty()),
        Err(refusal) => check_message(&refusal),
    }
}

fn api_seeds() -> Vec<Vec<u8>> {
    let watch = v1::CreateWatchRequest {
        symbol: "aapl".to_owned(),
        low: "90".to_owned(),
        high: "110.50".to_owned(),
        policy: 2,
        step: "0.5".to_owned(),
        hysteresis: "1".to_owned(),
        cooldown_seconds: 60,
    };
    let tick = v1::TickInput {
        symbol: "AAPL".to_owned(),
        time: "2000-03-01T14:30:00.5Z".to_owned(),
        price: "118.56".to_owned(),
        currency: "USD".to_owned(),
    };
    let mut seeds = texts(&["delivery-17", "record-4", "17-1-951921000000-above", "42"]);
    seeds.extend([watch.encode_to_vec(), tick.encode_to_vec()]);
    seeds
}
