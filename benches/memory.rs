//! How much memory a watch takes, counted at the allocator: 10 million watches by default,
//! or as many as `TRIPLINE_BENCH_WATCHES` says.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;

use cap::Cap;
use common::{Market, Mix};
use tripline::model::WatchId;

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

fn main() {
    let count =
        std::env::var("TRIPLINE_BENCH_WATCHES").map_or(10_000_000, |text| text.parse().unwrap());
    for (mix, bytes_max) in [(Mix::OneThreshold, 64), (Mix::Crossing, 64), (Mix::Policies, 128)] {
        let mut market = Market::default();
        let before = ALLOCATOR.allocated();
        let mut engine = market.engine();
        let empty = ALLOCATOR.allocated() - before;
        let ranks = market.fill(&mut engine, count, mix);
        let ranks_size = ranks.capacity() * size_of::<u16>();
        let full = ALLOCATOR.allocated() - before - ranks_size;
        let bytes = full as f64 / count as f64;
        println!("{mix:?}: {bytes:.1} bytes a watch of {count}, at most {bytes_max} wanted");
        for id in 1..=count {
            let at = usize::from(ranks[usize::try_from(id - 1).unwrap()]);
            let symbol = market.name(at);
            assert!(engine.remove(symbol, WatchId(id)));
        }
        let left = ALLOCATOR.allocated() - before - ranks_size;
        println!("{mix:?}: {left} bytes without its watches, {empty} before they came");
    }
}
