//! What can be set about Yahoo Finance, and what is wrong with a setting.

use std::path::PathBuf;

use reqwest::Url;

use crate::model::{Currency, Price, Tick};
use crate::pipeline::breaker::BreakerOptions;
use crate::pipeline::collect::MarketError;

/// How Yahoo Finance is asked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YahooOptions {
    /// Where the API is, `http` or `https`: `https://query1.finance.yahoo.com`.
    pub base_url: String,
    /// The `User-Agent` of each request; the source refuses requests without one.
    pub user_agent: String,
    /// A PEM file of certificate authorities to trust besides the public ones.
    #[serde(default)]
    pub root_ca_file: Option<PathBuf>,
    /// How long one attempt may take, its body included, in milliseconds.
    pub timeout_ms: u64,
    /// How many symbols are asked at the same time; more wait.
    pub concurrency_max: usize,
    /// How many requests leave in a second, evenly spread, retries included: 1 to 1000.
    pub requests_per_s: u32,
    /// How often a failed attempt is repeated; 0 means never.
    pub retries_max: u32,
    /// The wait before the first retry, in milliseconds; it doubles with each. Between half of
    /// it and the whole is waited.
    pub backoff_ms: u64,
    /// The longest wait before a retry, in milliseconds.
    pub backoff_max_ms: u64,
    /// The longest `Retry-After` that is honoured, in seconds; a longer one counts as this.
    pub retry_after_max_s: u64,
    /// The longest answer, unpacked, in bytes; a longer one is cut off and is a failure.
    pub body_bytes_max: usize,
    /// How many redirects of one request are followed.
    pub redirects_max: usize,
    /// When the source is left alone because it fails.
    pub breaker: BreakerOptions,
    /// A fixed rate as decimal text, by which prices in `currency_rate_from` are multiplied;
    /// empty to keep prices as they are stated.
    #[serde(default)]
    pub currency_rate: String,
    /// The currency of the prices that are converted; empty without a rate.
    #[serde(default)]
    pub currency_rate_from: String,
    /// The currency of the converted prices; empty without a rate.
    #[serde(default)]
    pub currency_rate_to: String,
}

/// Why there is no Yahoo Finance with these options.
#[derive(Debug, thiserror::Error)]
pub enum YahooError {
    /// An option is out of its range.
    #[error("market.yahoo.{option}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was expected, and what was found.
        reason: String,
    },
    /// No HTTP client could be made.
    #[error("expected an HTTP client with TLS, found: {0}")]
    Client(String),
}

/// A fixed rate between two currencies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversion {
    rate: Price,
    from: Currency,
    to: Currency,
}

impl Conversion {
    /// The tick in the currency that is wanted, if it is in the one that is converted.
    pub(super) fn apply(self, tick: Tick) -> Result<Tick, MarketError> {
        if tick.currency != Some(self.from) {
            return Ok(tick);
        }
        match tick.price.times(self.rate) {
            Ok(price) => Ok(Tick { price, currency: Some(self.to), ..tick }),
            Err(error) => {
                Err(MarketError::BadPrice { symbol: tick.symbol, reason: error.to_string() })
            }
        }
    }
}

pub(super) fn wrong(option: &'static str, reason: impl ToString) -> YahooError {
    YahooError::Option { option, reason: reason.to_string() }
}

impl YahooOptions {
    /// Checks what the type does not.
    pub(super) fn check(&self) -> Result<(), YahooError> {
        match Url::parse(&self.base_url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => {}
            _ => {
                let reason = format!(
                    "expected a URL such as https://query1.finance.yahoo.com, found {:?}",
                    self.base_url
                );
                return Err(wrong("base_url", reason));
            }
        }
        let at_least_1 = [
            ("timeout_ms", self.timeout_ms),
            ("concurrency_max", self.concurrency_max as u64),
            ("requests_per_s", u64::from(self.requests_per_s)),
            ("body_bytes_max", self.body_bytes_max as u64),
        ];
        for (option, value) in at_least_1 {
            if value == 0 {
                return Err(wrong(option, "expected at least 1, found 0"));
            }
        }
        if self.requests_per_s > 1_000 {
            let reason = format!("expected at most 1000, found {}", self.requests_per_s);
            return Err(wrong("requests_per_s", reason));
        }
        self.conversion().map(drop)
    }

    /// The fixed rate, if there is one.
    pub(super) fn conversion(&self) -> Result<Option<Conversion>, YahooError> {
        let texts = [&self.currency_rate, &self.currency_rate_from, &self.currency_rate_to];
        if texts.iter().all(|text| text.is_empty()) {
            return Ok(None);
        }
        Ok(Some(Conversion {
            rate: texts[0].parse::<Price>().map_err(|error| wrong("currency_rate", error))?,
            from: texts[1]
                .parse::<Currency>()
                .map_err(|error| wrong("currency_rate_from", error))?,
            to: texts[2].parse::<Currency>().map_err(|error| wrong("currency_rate_to", error))?,
        }))
    }
}
