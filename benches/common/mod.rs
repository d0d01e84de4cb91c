//! The workload of the benches: 10,000 symbols, watches and ticks spread over them by Zipf's
//! law, thresholds 0.1 to 30 % away from the price. The same seed gives the same workload.
#![allow(dead_code, reason = "no bench uses all of it")]

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tripline::model::{
    Decimal, Email, Policy, Price, Symbol, Timestamp, UserId, Version, Watch, WatchId, WatchSpec,
    WatchState,
};
use tripline::pipeline::evaluate::{CurrencyIdx, Effects, Engine, EngineTick, SymbolIdx};

pub(crate) const SYMBOLS: usize = 10_000;
const START_MS: i64 = 1_700_000_000_000;
const SEED: u64 = 20_000_301;

/// Which watches to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// The default policy; a third each with a low threshold, a high one and both.
    Crossing,
    /// The default policy and one threshold.
    OneThreshold,
    /// As `Crossing`, with all policies and parameters other than the defaults.
    Policies,
}

/// Draws symbols, the k-th with a probability that falls as 1/k.
pub(crate) struct Zipf(Vec<f64>);

impl Zipf {
    fn new() -> Self {
        let mut sum = 0.0;
        Self(
            (1..=SYMBOLS)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, rng: &mut SmallRng) -> usize {
        let total = self.0[SYMBOLS - 1];
        let point = rng.random_range(0.0..total);
        self.0.partition_point(|sum| *sum <= point).min(SYMBOLS - 1)
    }
}

/// Symbols with their first prices, and what draws from them.
pub(crate) struct Market {
    pub rng: SmallRng,
    zipf: Zipf,
    names: Vec<Symbol>,
    prices: Vec<f64>,
}

impl Default for Market {
    fn default() -> Self {
        let mut rng = SmallRng::seed_from_u64(SEED);
        let prices = (0..SYMBOLS).map(|_| 10f64.powf(rng.random_range(0.0..3.0))).collect();
        let names = (0..SYMBOLS).map(|at| format!("S{at}").parse().unwrap()).collect();
        Self { rng, zipf: Zipf::new(), names, prices }
    }
}

pub(crate) fn price(value: f64) -> Price {
    Price::from_units((value * 1e8).round() as i64).unwrap()
}

impl Market {
    /// An engine that knows every symbol, each at its first price.
    pub(crate) fn engine(&self) -> Engine {
        let mut engine = Engine::new();
        for (name, first) in self.names.iter().zip(&self.prices) {
            let symbol = engine.symbol(*name);
            let time = Timestamp::from_millis(START_MS - 1).unwrap();
            let tick =
                EngineTick { time, price: price(*first), symbol, currency: CurrencyIdx::NONE };
            engine.tick(tick, &mut Effects::default());
        }
        engine
    }

    /// The symbol of a rank.
    pub(crate) fn name(&self, at: usize) -> Symbol {
        self.names[at]
    }

    /// The first price of a symbol.
    pub(crate) fn first(&self, at: usize) -> Price {
        price(self.prices[at])
    }

    /// A new watch on a random symbol.
    pub(crate) fn watch(&mut self, id: u64, mix: Mix) -> Watch {
        let at = self.zipf.draw(&mut self.rng);
        self.watch_on(at, id, Version::FIRST, mix)
    }

    /// Watches with the default policy, a hundred of each user, to be imported into a store.
    pub(crate) fn owned_watches(&mut self, count: u64) -> Vec<(Email, WatchSpec)> {
        let watch = |id| {
            let email = format!("user{}@example.com", id / 100).parse().unwrap();
            (email, self.watch(id, Mix::Crossing).spec)
        };
        (1..=count).map(watch).collect()
    }

    /// A watch on a symbol by its rank, with thresholds of its own.
    pub(crate) fn watch_on(&mut self, at: usize, id: u64, version: Version, mix: Mix) -> Watch {
        let rng = &mut self.rng;
        let first = self.prices[at];
        let mut distance = || first * (rng.random_range(0.001f64.ln()..0.3f64.ln())).exp();
        let (low, high) = (price(first - distance()), price(first + distance()));
        let sides = if mix == Mix::OneThreshold { 2 } else { 3 };
        let (low, high) = match rng.random_range(0..sides) {
            0 => (Some(low), None),
            1 => (None, Some(high)),
            _ => (Some(low), Some(high)),
        };
        let (policy, cooldown_s) = match mix {
            Mix::Crossing | Mix::OneThreshold => (Policy::default(), 0),
            Mix::Policies => {
                let units = price(first * rng.random_range(0.001..0.05)).units();
                let policy = match rng.random_range(0..4) {
                    0 => Policy::Once,
                    1 => Policy::Step { step: Price::from_units(units).unwrap() },
                    _ => Policy::Crossing { hysteresis: Decimal::from_units(units).unwrap() },
                };
                (policy, rng.random_range(0..3) * 600)
            }
        };
        let spec = WatchSpec::new(self.names[at], low, high, policy, cooldown_s).unwrap();
        let user = UserId(u32::try_from(id / 5).unwrap());
        let (fresh_since, cooldown_since) = (version, version);
        let id = WatchId(id);
        Watch { id, user, version, fresh_since, cooldown_since, paused: false, spec }
    }

    /// Adds watches 1 to `count`; returns the rank of each one's symbol.
    pub(crate) fn fill(&mut self, engine: &mut Engine, count: u64, mix: Mix) -> Vec<u16> {
        let mut effects = Effects::default();
        let mut ranks = Vec::with_capacity(usize::try_from(count).unwrap());
        for id in 1..=count {
            let watch = self.watch(id, mix);
            ranks.push(rank(&watch));
            engine.apply(&watch, WatchState::default(), &mut effects);
            effects.clear();
        }
        ranks
    }

    /// Ticks that walk at random within 0.08 % of the first prices, where no threshold is.
    pub(crate) fn quiet_ticks(&mut self, count: usize) -> Vec<EngineTick> {
        let mut walk = vec![0f64; SYMBOLS];
        let rng = &mut self.rng;
        let mut tick = |_| {
            let at = self.zipf.draw(rng);
            walk[at] = (walk[at] + rng.random_range(-0.0002..0.0002)).clamp(-0.0008, 0.0008);
            at_rank(at, price(self.prices[at] * (1.0 + walk[at])))
        };
        (0..count).map(&mut tick).collect()
    }

    /// Ticks that walk from threshold to threshold of the watches given, up or down at random
    /// and then the same way back, so that each tick tells or re-arms about one watch of any
    /// symbol, whatever its number of watches.
    pub(crate) fn storm_ticks(&mut self, watches: &[Watch], count: usize) -> Vec<EngineTick> {
        let mut thresholds: Vec<Vec<i64>> = vec![Vec::new(); SYMBOLS];
        for watch in watches {
            let own = &mut thresholds[usize::from(rank(watch))];
            own.extend(watch.spec.low().map(|low| low.units() - 1));
            own.extend(watch.spec.high().map(|high| high.units() + 1));
        }
        let mut places = Vec::with_capacity(SYMBOLS);
        for (own, first) in thresholds.iter_mut().zip(&self.prices) {
            own.push(price(*first).units());
            own.sort_unstable();
            own.dedup();
            places.push(own.partition_point(|units| *units < price(*first).units()));
        }
        let rng = &mut self.rng;
        let mut there: Vec<EngineTick> = Vec::with_capacity(count);
        let mut back = Vec::with_capacity(count / 2);
        while there.len() < count / 2 {
            let at = self.zipf.draw(rng);
            let units = |place: usize| Price::from_units(thresholds[at][place]).unwrap();
            back.push(at_rank(at, units(places[at])));
            let up = rng.random::<bool>();
            let last = thresholds[at].len() - 1;
            places[at] = if up { (places[at] + 1).min(last) } else { places[at].saturating_sub(1) };
            there.push(at_rank(at, units(places[at])));
        }
        there.extend(back.into_iter().rev());
        there
    }
}

/// The rank of a watch's symbol.
pub(crate) fn rank(watch: &Watch) -> u16 {
    watch.spec.symbol().as_str()[1..].parse().unwrap()
}

fn at_rank(at: usize, price: Price) -> EngineTick {
    let time = Timestamp::from_millis(START_MS).unwrap();
    let symbol = SymbolIdx(u32::try_from(at).unwrap());
    EngineTick { time, price, symbol, currency: CurrencyIdx::NONE }
}

/// Gives ticks times that go on from `from_ms`, a millisecond apart.
pub(crate) fn stamp(ticks: &mut [EngineTick], from_ms: &mut i64) {
    for tick in ticks {
        *from_ms += 1;
        tick.time = Timestamp::from_millis(START_MS + *from_ms).unwrap();
    }
}
