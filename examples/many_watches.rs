//! Writes a file of watches on the symbols of `data/us-stocks-2000-2013.csv`, to measure
//! `tripline replay` with. The same count and seed always give the same file.
//!
//! `cargo run --release --example many_watches -- 5000 1 > watches.csv`

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

/// A symbol, and the range in dollars that most of its prices are in.
const SYMBOLS: [(&str, u64, u64); 5] =
    [("AAPL", 15, 600), ("FB", 18, 40), ("GOOG", 100, 750), ("IBM", 60, 200), ("MSFT", 20, 60)];

/// The generator SplitMix64, which is short enough to write here, so that the files never
/// change with the version of a library. Source: Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number from `low` up to but not including `high`.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }
}

fn write_watches(count: u64, seed: u64) -> io::Result<()> {
    let mut random = Random(seed);
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "email,symbol,low,high")?;
    for number in 1..=count {
        let place = usize::try_from(random.within(0, SYMBOLS.len() as u64)).unwrap_or(0);
        let (symbol, least, most) = SYMBOLS[place];
        // In cents: a band anywhere within the range, up to half as wide, or one side of it.
        let low = random.within(least * 100, most * 100);
        let high = low + random.within(1, (most - least) * 50);
        let dollars = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        let (low, high) = match random.within(0, 3) {
            0 => (dollars(low), String::new()),
            1 => (String::new(), dollars(high)),
            _ => (dollars(low), dollars(high)),
        };
        writeln!(out, "user{number}@example.com,{symbol},{low},{high}")?;
    }
    out.flush()
}

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = env::args().skip(1).map(|text| text.parse().ok()).collect();
    let Some([count, seed]) = numbers.as_deref() else {
        let _ = writeln!(io::stderr(), "expected a count of watches and a seed, such as 5000 1");
        return ExitCode::from(2);
    };
    match write_watches(*count, *seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            let _ = writeln!(io::stderr(), "expected to write the watches, found: {cause}");
            ExitCode::FAILURE
        }
    }
}
