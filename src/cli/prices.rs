//! Commands about prices: the newest, the mean of some, and those before.

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientArgs};
use super::failure::Failure;
use super::output::{Cell, Output, Row, Tone, age_s, duration, some};
use crate::adapters::clock::SystemClock;
use crate::model::Timestamp;
use crate::pipeline::clock::Clock;
use crate::proto::v1::quotes_client::QuotesClient;
use crate::proto::v1::{self, GetAverageRequest, GetHistoryRequest, GetQuoteRequest, MarketState};

/// One of the prices kept.
#[derive(Serialize)]
struct PriceRow<'a> {
    symbol: &'a str,
    price: &'a str,
    currency: Option<&'a str>,
    time: &'a str,
    age_s: Option<u64>,
}

impl<'a> PriceRow<'a> {
    fn new(quote: &'a v1::Quote, now: Timestamp) -> Self {
        let v1::Quote { symbol, time, price, currency, .. } = quote;
        Self { symbol, price, currency: some(currency), time, age_s: age_s(now, time) }
    }
}

impl Row for PriceRow<'_> {
    const COLUMNS: &'static [&'static str] = &["SYMBOL", "PRICE", "CURRENCY", "TIME", "AGE"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(self.symbol),
            Cell::number(self.price),
            Cell::text(self.currency.unwrap_or_default()),
            Cell::text(self.time),
            Cell::number(&self.age_s.map(duration).unwrap_or_default()).tone(Tone::Quiet),
        ]
    }
}

/// The newest price.
#[derive(Serialize)]
struct QuoteRow<'a> {
    #[serde(flatten)]
    newest: PriceRow<'a>,
    market: Option<&'static str>,
}

impl Row for QuoteRow<'_> {
    const COLUMNS: &'static [&'static str] =
        &["SYMBOL", "PRICE", "CURRENCY", "TIME", "AGE", "MARKET"];

    fn cells(&self) -> Vec<Cell> {
        let mut cells = self.newest.cells();
        cells.push(Cell::text(self.market.unwrap_or_default()));
        cells
    }
}

fn market(quote: &v1::Quote) -> Option<&'static str> {
    match quote.market() {
        MarketState::Unspecified => None,
        MarketState::Pre => Some("pre"),
        MarketState::Regular => Some("regular"),
        MarketState::Post => Some("post"),
        MarketState::Closed => Some("closed"),
    }
}

/// Prints the newest price of a symbol.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline quote AAPL
  SYMBOL   PRICE  CURRENCY  TIME                   AGE  MARKET
  AAPL    118.56  USD       2000-03-01T14:30:00Z  12 s  regular")]
pub(super) struct Quote {
    /// The symbol.
    symbol: String,
}

impl Quote {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let answer = Client::new(args)?
            .call(GetQuoteRequest { symbol: self.symbol }, |channel, request| async {
                QuotesClient::new(channel).get_quote(request).await
            })
            .await?;
        let newest = |quote| QuoteRow { newest: row(quote), market: market(quote) };
        let rows: Vec<_> = answer.quote.as_slice().iter().map(newest).collect();
        Output::new(args.json).rows(&rows, "no price yet")
    }
}

fn row(quote: &v1::Quote) -> PriceRow<'_> {
    PriceRow::new(quote, SystemClock.now())
}

#[derive(Serialize)]
struct AverageRow<'a> {
    symbol: &'a str,
    average: &'a str,
    count: u32,
}

impl Row for AverageRow<'_> {
    const COLUMNS: &'static [&'static str] = &["SYMBOL", "AVERAGE", "PRICES"];

    fn cells(&self) -> Vec<Cell> {
        let (average, count) = (Cell::number(self.average), self.count.to_string());
        vec![Cell::text(self.symbol), average, Cell::number(&count)]
    }
}

/// Prints the mean of a symbol's newest prices, and of how many it is.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline average AAPL --count 20
  SYMBOL  AVERAGE  PRICES
  AAPL    117.025      20")]
pub(super) struct Average {
    /// The symbol.
    symbol: String,
    /// Of how many prices at most: 1 to 10000.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: u32,
}

impl Average {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let Self { symbol, count } = self;
        let answer = Client::new(args)?
            .call(GetAverageRequest { symbol, count }, |channel, request| async {
                QuotesClient::new(channel).get_average(request).await
            })
            .await?;
        let v1::GetAverageResponse { symbol, average, count } = &answer;
        Output::new(args.json).rows(&[AverageRow { symbol, average, count: *count }], "")
    }
}

/// Prints a symbol's newest prices, the newest first; at most one of each second is kept.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline history AAPL --count 2 --json
  {\"symbol\":\"AAPL\",\"price\":\"118.56\",\"currency\":null,\"time\":\"2000-03-01T14:30:00Z\",\
\"age_s\":12}
  {\"symbol\":\"AAPL\",\"price\":\"118\",\"currency\":null,\"time\":\"2000-03-01T14:29:00Z\",\
\"age_s\":72}")]
pub(super) struct History {
    /// The symbol.
    symbol: String,
    /// How many prices at most: 1 to 10000.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: u32,
}

impl History {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let Self { symbol, count } = self;
        let answer = Client::new(args)?
            .call(GetHistoryRequest { symbol, count }, |channel, request| async {
                QuotesClient::new(channel).get_history(request).await
            })
            .await?;
        let rows: Vec<_> = answer.quotes.iter().map(row).collect();
        Output::new(args.json).rows(&rows, "no price yet")
    }
}
