//! The fuzz targets on stable: a seeded stream of mutated seeds, the same in every run.
//!
//! `FUZZ_ITERATIONS=100000 cargo test --test fuzz_smoke` looks further, `FUZZ_SEED=7` elsewhere.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod fuzz_harness;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuzz_harness::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const BYTES_MAX: usize = 4_096;
/// Bytes at which readers of texts, numbers and lengths change their minds.
const TOKENS: [&[u8]; 24] = [
    b"\n",
    b"\r\n",
    b"\"",
    b",",
    b".",
    b"-",
    b"+",
    b"=",
    b":",
    b"@",
    b"%",
    b"/",
    b"[",
    b"]",
    b"{",
    b"}",
    b"0",
    b"9",
    b"e9",
    b"null",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\xc4\xb0",
    b"\x80",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn mutate(random: &mut StdRng, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.random_range(0..=input.len());
    let to = random.random_range(at..=input.len().min(at + 16));
    match random.random_range(0..7) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8u32),
        1 if at < input.len() => input[at] = random.random(),
        2 => drop(input.drain(at..to)),
        3 => {
            let part = input[at..to].to_vec();
            drop(input.splice(at..at, part));
        }
        4 => {
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let token = TOKENS[random.random_range(0..TOKENS.len())];
            drop(input.splice(at..to.min(at + random.random_range(0..2usize)), token.to_vec()));
        }
    }
    input.truncate(BYTES_MAX);
}

/// Reads the seeds, then as many of their mutations, which build upon each other.
fn smoke(name: &str, iterations: u64) {
    let Target { run, seeds, .. } = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds();
    let seed = setting("FUZZ_SEED", 1);
    let mut random = StdRng::seed_from_u64(seed);
    let mut inputs = seeds.clone();
    for iteration in 0..setting("FUZZ_ITERATIONS", iterations) {
        let input = inputs.pop().unwrap_or_else(|| {
            let mut input = seeds[random.random_range(0..seeds.len())].clone();
            for _ in 0..random.random_range(1..8) {
                let other = &seeds[random.random_range(0..seeds.len())];
                mutate(&mut random, &mut input, other);
            }
            input
        });
        if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
            let text = String::from_utf8_lossy(&input);
            panic!("{name}, FUZZ_SEED={seed}, iteration {iteration}: {input:?} = {text:?}");
        }
    }
}

macro_rules! targets {
    ($($name:ident: $iterations:literal),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                smoke(stringify!($name), $iterations);
            }
        )+

        #[test]
        fn no_target_is_left_out() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),+]);
            for name in names {
                let file = format!("fuzz/fuzz_targets/{name}.rs");
                assert!(std::path::Path::new(&file).exists(), "{file} is missing");
            }
        }
    };
}

targets! {
    decimals: 10_000,
    floats: 10_000,
    timestamps: 10_000,
    names: 10_000,
    alert_ids: 10_000,
    ticks_csv: 5_000,
    watches_csv: 5_000,
    records: 10_000,
    broker_batches: 10_000,
    yahoo_answers: 5_000,
    // Each reads the whole schema.
    settings: 100,
    urls_and_headers: 10_000,
    api_fields: 10_000,
}

/// `cargo test --test fuzz_smoke -- --ignored` gives libFuzzer the same seeds to begin with.
#[test]
#[ignore = "writes fuzz/corpus"]
fn write_the_corpus() {
    for Target { name, seeds, .. } in &TARGETS {
        let folder = format!("fuzz/corpus/{name}");
        std::fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds().iter().enumerate() {
            std::fs::write(format!("{folder}/seed-{number}"), seed).unwrap();
        }
    }
}
