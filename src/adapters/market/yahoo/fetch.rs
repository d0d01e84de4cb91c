//! One attempt: a request to the chart API, and its bounded answer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};

use super::answer;
use super::options::{Conversion, YahooError, YahooOptions, wrong};
use crate::adapters::tls;
use crate::metrics::Metrics;
use crate::model::{Symbol, Tick, Timestamp};
use crate::pipeline::clock::Clock;
use crate::pipeline::collect::MarketError;

/// Asks once. Timeouts, pace and retries are the business of the layers around it.
pub(super) struct Fetch {
    client: Client,
    base_url: String,
    body_bytes_max: usize,
    conversion: Option<Conversion>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Fetch {
    pub(super) fn new(
        options: &YahooOptions,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, YahooError> {
        Ok(Self {
            client: client(options)?,
            base_url: options.base_url.trim_end_matches('/').to_owned(),
            body_bytes_max: options.body_bytes_max,
            conversion: options.conversion()?,
            clock,
            metrics,
        })
    }

    pub(super) async fn quote(&self, symbol: Symbol) -> Result<Tick, MarketError> {
        // As the last part of a path these mean folders, however they are encoded.
        if matches!(symbol.as_str(), "." | "..") {
            return Err(MarketError::UnknownSymbol(symbol));
        }
        let part = path_part(symbol.as_str());
        let url = format!("{}/v8/finance/chart/{part}?range=1d&interval=1m", self.base_url);
        let response = self.client.get(url).send().await.map_err(failed)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND => return Err(MarketError::UnknownSymbol(symbol)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let retry_after = retry_after(response.headers(), self.clock.now());
                return Err(MarketError::Throttled { retry_after });
            }
            status => {
                let text = format!("expected status 200 for {symbol}, found {status}");
                return Err(MarketError::Failed(text));
            }
        }
        let tick = answer::read(symbol, &self.body(response).await?)?;
        let tick = self.conversion.map_or(Ok(tick), |conversion| conversion.apply(tick))?;
        self.metrics.yahoo_price();
        Ok(tick)
    }

    /// The body; given up as soon as it is longer than the bound, whatever length it states.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, MarketError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.body_bytes_max {
                return Err(MarketError::Failed(format!(
                    "expected an answer of at most {} bytes, found more",
                    self.body_bytes_max
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// A client of its own: it trusts the compiled-in roots and those of the options, so that
/// neither the host's certificates nor a process-wide default decide what it talks to.
fn client(options: &YahooOptions) -> Result<Client, YahooError> {
    let mut tls = tls::client_config(options.root_ca_file.as_deref()).map_err(|cause| {
        let path = options.root_ca_file.iter().map(|path| path.display()).next();
        let path = path.map_or_else(String::new, |path| path.to_string());
        wrong("root_ca_file", format!("expected PEM certificates in {path}, found: {cause}"))
    })?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A redirect must not lead from TLS to where anybody can answer.
    let https_only =
        options.base_url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    Client::builder()
        .https_only(https_only)
        .tls_backend_preconfigured(tls)
        .user_agent(&options.user_agent)
        .referer(false)
        .redirect(redirect::Policy::limited(options.redirects_max))
        .pool_max_idle_per_host(options.concurrency_max)
        .build()
        .map_err(|error| YahooError::Client(causes(&error)))
}

/// How long the source asks to be left alone: seconds, or until a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(date.as_millisecond())?.since(now))
}

/// A symbol as one part of a path. A `/` must not begin another part, and some servers read
/// `&`, `=`, `:` or `^` in a path as something else.
fn path_part(symbol: &str) -> String {
    let mut part = String::new();
    for byte in symbol.bytes() {
        match byte {
            b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => part.push(char::from(byte)),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

fn failed(error: reqwest::Error) -> MarketError {
    // The address is known, and hides what went wrong.
    MarketError::Failed(causes(&error.without_url()))
}

/// An error with its causes, which say what the error itself does not.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
