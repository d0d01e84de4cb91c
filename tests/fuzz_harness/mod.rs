//! What the fuzz targets do with some bytes, and what must hold whatever the bytes are. Shared
//! by `fuzz/` (libFuzzer, on nightly) and `tests/fuzz_smoke.rs` (seeded, on stable).

mod files;
mod values;
mod wire;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tripline::model::{Policy, Price, WatchSpec};

pub use files::{ticks_csv, watches_csv};
pub use values::{alert_ids, decimals, floats, names, timestamps};
pub use wire::{api_fields, broker_batches, records, settings, urls_and_headers, yahoo_answers};

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
    Target { name: "decimals", run: decimals, seeds: values::decimal_seeds },
    Target { name: "floats", run: floats, seeds: values::float_seeds },
    Target { name: "timestamps", run: timestamps, seeds: values::timestamp_seeds },
    Target { name: "names", run: names, seeds: values::name_seeds },
    Target { name: "alert_ids", run: alert_ids, seeds: values::alert_id_seeds },
    Target { name: "ticks_csv", run: ticks_csv, seeds: files::ticks_csv_seeds },
    Target { name: "watches_csv", run: watches_csv, seeds: files::watches_csv_seeds },
    Target { name: "records", run: records, seeds: wire::record_seeds },
    Target { name: "broker_batches", run: broker_batches, seeds: wire::batch_seeds },
    Target { name: "yahoo_answers", run: yahoo_answers, seeds: wire::yahoo_seeds },
    Target { name: "settings", run: settings, seeds: wire::settings_seeds },
    Target { name: "urls_and_headers", run: urls_and_headers, seeds: wire::url_seeds },
    Target { name: "api_fields", run: api_fields, seeds: wire::api_seeds },
];

/// What is printed is read as the same again.
pub(crate) fn round_trip<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(value: &T) {
    let text = value.to_string();
    assert_eq!(&text.parse::<T>().expect("what was printed can be read"), value, "{text:?}");
}

/// What a message says of bad input is one line of a bounded length.
pub(crate) fn check_message(message: &dyn Display) {
    let text = message.to_string();
    assert!(!text.is_empty() && text.len() <= 4_096, "{} bytes: {text:.200}", text.len());
    assert!(!text.contains(['\n', '\r', '\u{1b}']), "{text:?}");
}

pub(crate) fn check<T: FromStr<Err: Display + Debug> + Display + PartialEq + Debug>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => round_trip(&value),
        // Fields are bounded before they are read; texts are shown no further than that.
        Err(error) if text.len() <= 254 => check_message(&error),
        Err(_) => {}
    }
}

pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn spec_texts(spec: &WatchSpec) -> [String; 6] {
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
