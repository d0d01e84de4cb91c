#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tripline_fuzz::broker_batches(data));
