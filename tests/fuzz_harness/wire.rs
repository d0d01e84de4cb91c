//! Readers of records, answers, settings and requests.

use bytes::Bytes;
use prost::Message;
use tripline::adapters::mailer::SmtpUrl;
use tripline::config::{self, Flag, Sources};
use tripline::fuzzing;
use tripline::model::{AlertId, PolicyKind, Symbol, Timestamp};
use tripline::pipeline::broker::Record;
use tripline::pipeline::record::{
    ALERTS_TOPIC, TICKS_TOPIC, decode_alert, decode_tick, encode_alert, encode_tick, schema_header,
};
use tripline::proto::v1;

use super::{check_message, round_trip, spec_texts, texts};

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

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
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

pub(crate) fn batch_seeds() -> Vec<Vec<u8>> {
    let record = |key: Option<&'static [u8]>, value: &'static [u8]| Record {
        key: key.map(Bytes::from_static),
        value: Bytes::from_static(value),
        headers: [("schema".into(), Bytes::from_static(b"tick"))].into(),
        time: Timestamp::MAX,
    };
    let bare = Record { headers: Default::default(), ..record(None, b"") };
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

pub(crate) fn yahoo_seeds() -> Vec<Vec<u8>> {
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

pub(crate) fn settings_seeds() -> Vec<Vec<u8>> {
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

pub(crate) fn url_seeds() -> Vec<Vec<u8>> {
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

pub(crate) fn api_seeds() -> Vec<Vec<u8>> {
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
