//! Simulated prices: a seeded random walk for each symbol.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::clock::SeededRandom;
use crate::model::{Price, Symbol, Tick, Timestamp};
use crate::pipeline::clock::{Clock, Random};
use crate::pipeline::collect::{MarketError, Quotes};

/// Where a walk turns back.
const PRICES: (f64, f64) = (0.01, 1_000_000.0);

/// How prices are simulated.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedOptions {
    /// What the prices follow from: the same seed gives each symbol the same prices.
    pub seed: u64,
    /// The time between two prices of a symbol that are sent, in milliseconds.
    pub interval_ms: u64,
    /// The standard deviation of one step of the price's natural logarithm: 0.001 is about a
    /// tenth of a percent. From 0 to 1.
    pub volatility: f64,
    /// How many symbols are priced; more are refused.
    pub symbols_max: usize,
}

/// Why prices can't be simulated with these options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulatedError {
    /// The volatility is out of its range.
    #[error("market.simulated.volatility: expected a number from 0 to 1, found {0}")]
    Volatility(String),
    /// No time between two prices.
    #[error("market.simulated.interval_ms: expected at least 1, found 0")]
    Interval,
}

/// A market that knows every symbol. Asking for a price makes the next one.
pub struct Simulated {
    options: SimulatedOptions,
    clock: Arc<dyn Clock>,
    walks: Mutex<HashMap<Symbol, Walk>>,
}

impl Simulated {
    /// A market in which nothing has been asked yet.
    pub fn new(options: SimulatedOptions, clock: Arc<dyn Clock>) -> Result<Self, SimulatedError> {
        if !(0.0..=1.0).contains(&options.volatility) {
            return Err(SimulatedError::Volatility(options.volatility.to_string()));
        }
        if options.interval_ms == 0 {
            return Err(SimulatedError::Interval);
        }
        Ok(Self { options, clock, walks: Mutex::default() })
    }

    /// Makes the next price of a symbol.
    fn step(&self, symbol: Symbol) -> Result<Tick, MarketError> {
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let symbols_max = self.options.symbols_max;
        if walks.len() >= symbols_max && !walks.contains_key(&symbol) {
            let text = format!("expected at most {symbols_max} simulated symbols, found {symbol}");
            return Err(MarketError::Failed(text));
        }
        let walk = walks.entry(symbol).or_insert_with(|| Walk::new(self.options.seed, symbol));
        walk.step(self.options.volatility);
        // Two prices within a millisecond, or a clock that was stepped back: still in order.
        walk.time = self.clock.now().max(walk.time.plus(Duration::from_millis(1)));
        let price = walk
            .price()
            .map_err(|error| MarketError::BadPrice { symbol, reason: error.to_string() })?;
        Ok(Tick { symbol, time: walk.time, price, currency: None, market: None })
    }
}

#[async_trait]
impl Quotes for Simulated {
    async fn quote(&self, symbol: Symbol) -> Result<Tick, MarketError> {
        self.step(symbol)
    }
}

/// The walk of one symbol, which depends on no other symbol.
struct Walk {
    random: SeededRandom,
    price: f64,
    time: Timestamp,
}

impl Walk {
    fn new(seed: u64, symbol: Symbol) -> Self {
        // FNV-1a: it stays the same from build to build, which the standard hasher need not.
        let hash = symbol.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let random = SeededRandom::new(seed ^ hash);
        // From 10 to 1,000, as many below 100 as above.
        let price = 10.0 * 100f64.powf(uniform(&random));
        Self { random, price, time: Timestamp::MIN }
    }

    /// Moves by a normal deviate of the logarithm (Box and Muller 1958).
    fn step(&mut self, volatility: f64) {
        let radius = (-2.0 * (1.0 - uniform(&self.random)).ln()).sqrt();
        let deviate = radius * (TAU * uniform(&self.random)).cos();
        self.price = (self.price * (volatility * deviate).exp()).clamp(PRICES.0, PRICES.1);
    }

    /// The price as a market would state it: to the cent, or finer below 1.
    fn price(&self) -> Result<Price, crate::model::DecimalError> {
        let places = if self.price < 1.0 { 10_000.0 } else { 100.0 };
        Price::from_f64((self.price * places).round() / places)
    }
}

/// From 0 to below 1.
fn uniform(random: &SeededRandom) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let number = (random.next_u64() >> 11) as f64;
    number / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::ManualClock;

    fn market(seed: u64, clock: &Arc<ManualClock>) -> Arc<Simulated> {
        let options = SimulatedOptions { seed, interval_ms: 100, volatility: 0.01, symbols_max: 3 };
        Arc::new(Simulated::new(options, clock.clone()).unwrap())
    }

    async fn prices(market: &Simulated, symbol: &str, count: usize) -> Vec<Tick> {
        let mut ticks = Vec::new();
        for _ in 0..count {
            ticks.push(market.quote(symbol.parse().unwrap()).await.unwrap());
        }
        ticks
    }

    #[tokio::test]
    async fn a_seed_gives_a_symbol_its_prices_whatever_else_is_asked() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let (one, same, other) = (market(7, &clock), market(7, &clock), market(8, &clock));
        let first = prices(&one, "AAPL", 500).await;
        prices(&same, "MSFT", 3).await;
        assert_eq!(prices(&same, "AAPL", 500).await, first);
        assert_ne!(prices(&other, "AAPL", 500).await, first);
        assert!(first.windows(2).all(|pair| pair[0].time < pair[1].time));
        assert!(first.windows(2).any(|pair| pair[0].price != pair[1].price));
        prices(&one, "A", 1).await;
        prices(&one, "B", 1).await;
        let error = one.quote("C".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("at most 3 simulated symbols"), "{error}");
    }

    #[tokio::test]
    async fn the_wildest_walk_states_valid_prices() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let options = SimulatedOptions { seed: 1, interval_ms: 1, volatility: 1.0, symbols_max: 1 };
        let market = Simulated::new(options.clone(), clock.clone()).unwrap();
        let ticks = prices(&market, "X", 20_000).await;
        assert!(ticks.iter().any(|tick| tick.price.to_f32() < 1.0));
        for volatility in [-0.1, 1.1, f64::NAN] {
            let options = SimulatedOptions { volatility, ..options.clone() };
            assert!(Simulated::new(options, clock.clone()).is_err(), "{volatility}");
        }
    }
}
