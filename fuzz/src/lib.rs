//! The readers that `fuzz_targets/` feeds; what must hold of them is shared with the main crate's
//! tests.

#[path = "../../tests/fuzz_harness/mod.rs"]
mod harness;

pub use harness::*;
