//! Reads an answer of the chart API: the newest close of the current day.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{Currency, MarketState, Price, Symbol, Tick, Timestamp};
use crate::pipeline::collect::MarketError;

/// How much of an answer that is no JSON is looked at, and shown, in bytes.
const HEAD_BYTES: usize = 512;

#[derive(Deserialize)]
struct Answer {
    chart: Chart,
}

#[derive(Deserialize)]
struct Chart {
    result: Option<Vec<Series>>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    code: String,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    currency: Option<String>,
    #[serde(default)]
    regular_market_price: Value,
    #[serde(default)]
    regular_market_time: Option<i64>,
    #[serde(default)]
    market_state: Value,
    #[serde(default)]
    current_trading_period: Value,
}

#[derive(Deserialize)]
struct Series {
    meta: Meta,
    #[serde(default)]
    timestamp: Option<Vec<i64>>,
    #[serde(default)]
    indicators: Option<Indicators>,
}

#[derive(Deserialize)]
struct Indicators {
    #[serde(default)]
    quote: Vec<Bars>,
}

#[derive(Deserialize)]
struct Bars {
    /// One per time; `null` where nothing was traded.
    #[serde(default)]
    close: Option<Vec<Value>>,
}

/// The tick that an answer under a status of success states.
pub(crate) fn read(symbol: Symbol, body: &[u8]) -> Result<Tick, MarketError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| no_json(body, &error))?;
    if let Some(fault) = answer.chart.error {
        return Err(refused(symbol, &fault));
    }
    let Some(series) = answer.chart.result.into_iter().flatten().next() else {
        return Err(MarketError::NoPrice(symbol));
    };
    let (time, price) = series.newest().ok_or(MarketError::NoPrice(symbol))?;
    let bad = |reason: String| MarketError::BadPrice { symbol, reason };
    let number = price
        .as_f64()
        .ok_or_else(|| bad(format!("expected a number, found {}", head(price.to_string()))))?;
    let currency = match series.meta.currency.as_deref() {
        None | Some("") => None,
        Some(code) => Some(code.parse::<Currency>().map_err(|error| bad(error.to_string()))?),
    };
    Ok(Tick {
        symbol,
        time: time
            .checked_mul(1_000)
            .and_then(Timestamp::from_millis)
            .ok_or_else(|| bad(format!("expected a time in seconds since 1970, found {time}")))?,
        price: Price::from_f64(number).map_err(|error| bad(error.to_string()))?,
        currency,
        market: series.meta.market(time),
    })
}

impl Meta {
    /// The state of the market at `time`, in seconds: as it is stated, or else by the hours of the
    /// day. What can't be read is left out, for a price is a price without it.
    fn market(&self, time: i64) -> Option<MarketState> {
        if let Some(stated) = self.market_state.as_str() {
            return match stated {
                "PRE" => Some(MarketState::Pre),
                "REGULAR" => Some(MarketState::Regular),
                "POST" => Some(MarketState::Post),
                "CLOSED" | "PREPRE" | "POSTPOST" => Some(MarketState::Closed),
                _ => None,
            };
        }
        let hours = |name| {
            let end = |end| self.current_trading_period.get(name)?.get(end)?.as_i64();
            Some(end("start")?..end("end")?)
        };
        // The newest price of the regular hours bears the instant of their end.
        if hours("regular")?.contains(&time) || time == hours("regular")?.end {
            return Some(MarketState::Regular);
        }
        let open = |name| hours(name).is_some_and(|hours| hours.contains(&time));
        if open("pre") {
            Some(MarketState::Pre)
        } else if open("post") {
            Some(MarketState::Post)
        } else {
            Some(MarketState::Closed)
        }
    }
}

impl Series {
    /// The newest close with its own time; without any, the regular market's last price.
    fn newest(&self) -> Option<(i64, &Value)> {
        let times = self.timestamp.iter().flatten().copied();
        let bars = self.indicators.as_ref().and_then(|indicators| indicators.quote.first());
        let closes = bars.and_then(|bars| bars.close.as_ref()).into_iter().flatten();
        times
            .zip(closes)
            .filter(|(_, close)| !close.is_null())
            .max_by_key(|(time, _)| *time)
            .or_else(|| Some((self.meta.regular_market_time?, &self.meta.regular_market_price)))
            .filter(|(_, price)| !price.is_null())
    }
}

/// What an error in the form of the API means.
fn refused(symbol: Symbol, fault: &Fault) -> MarketError {
    if fault.code.eq_ignore_ascii_case("not found") {
        return MarketError::UnknownSymbol(symbol);
    }
    if throttles(&fault.code) || throttles(fault.description.as_deref().unwrap_or_default()) {
        return MarketError::Throttled { retry_after: None };
    }
    let description = fault.description.clone().unwrap_or_default();
    let text = format!("{}: {description}", fault.code);
    MarketError::Failed(format!("expected a chart of {symbol}, found the error {}", head(text)))
}

/// What an answer means that is no JSON, or JSON of another shape. The source states its
/// displeasure as plain text or HTML, under any status.
fn no_json(body: &[u8], error: &serde_json::Error) -> MarketError {
    let text = String::from_utf8_lossy(&body[..body.len().min(HEAD_BYTES)]);
    if !error.is_data() && throttles(&text) {
        return MarketError::Throttled { retry_after: None };
    }
    let found = match text.trim_start().as_bytes().first() {
        None => "nothing".to_owned(),
        Some(b'<') => "HTML".to_owned(),
        Some(_) => format!("{} ({error})", head(text.trim().to_owned())),
    };
    MarketError::Failed(format!("expected a chart as JSON, found {found}"))
}

fn throttles(text: &str) -> bool {
    text.to_ascii_lowercase().contains("too many requests")
}

/// Enough of a text to recognise it, without what would break a line of a log.
fn head(text: String) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(meta: &str, times: &str, closes: &str) -> String {
        format!(
            r#"{{"chart":{{"result":[{{"meta":{{{meta}}},"timestamp":{times},
            "indicators":{{"quote":[{{"close":{closes},"volume":[1]}}]}}}}],"error":null}}}}"#
        )
    }

    #[test]
    fn the_market_is_as_stated_or_by_its_hours() {
        let hours = r#""currentTradingPeriod":{"pre":{"start":100,"end":200},
            "regular":{"start":200,"end":300},"post":{"start":300,"end":400}}"#;
        let stated = |state: &str| format!(r#""marketState":{state},{hours}"#);
        let half = r#""currentTradingPeriod":{"regular":{"start":200,"end":"300"}}"#;
        for (meta, time, expected) in [
            (stated(r#""PRE""#), 250, Some(MarketState::Pre)),
            (stated(r#""REGULAR""#), 150, Some(MarketState::Regular)),
            (stated(r#""POST""#), 250, Some(MarketState::Post)),
            (stated(r#""POSTPOST""#), 250, Some(MarketState::Closed)),
            (stated(r#""CLOSED""#), 250, Some(MarketState::Closed)),
            (stated(r#""LUNCH""#), 250, None),
            (stated("7"), 250, Some(MarketState::Regular)),
            (stated("null"), 99, Some(MarketState::Closed)),
            (hours.to_owned(), 100, Some(MarketState::Pre)),
            (hours.to_owned(), 200, Some(MarketState::Regular)),
            (hours.to_owned(), 300, Some(MarketState::Regular)),
            (hours.to_owned(), 301, Some(MarketState::Post)),
            (hours.to_owned(), 400, Some(MarketState::Closed)),
            (half.to_owned(), 250, None),
            (String::new(), 250, None),
        ] {
            let body = chart(&meta, &format!("[{time}]"), "[1]");
            let tick = read("AAPL".parse().unwrap(), body.as_bytes()).unwrap();
            assert_eq!(tick.market, expected, "{meta} at {time}");
        }
    }

    #[test]
    fn an_answer_states_a_tick_or_why_there_is_none() {
        let usd = r#""currency":"USD","marketState":"REGULAR""#;
        let last = r#""currency":"USD","regularMarketPrice":7.5,"regularMarketTime":99"#;
        let error = |code: &str, text: &str| {
            format!(
                r#"{{"chart":{{"result":null,"error":{{"code":"{code}","description":"{text}"}}}}}}"#
            )
        };
        for (body, expected) in [
            (chart(usd, "[60,120]", "[1.5,150.10000610351562]"), "120 150.1 USD"),
            (chart(usd, "[60]", "[438.45001220703125]"), "60 438.45 USD"),
            (chart(usd, "[60,120]", "[67432.15625,null]"), "60 67432.16 USD"),
            (chart(usd, "[60]", "[0.000012345678326732013]"), "60 0.00001235 USD"),
            (chart(usd, "[120,60]", "[2,1]"), "120 2 USD"),
            (chart(last, "[60,120]", "[null,null]"), "99 7.5 USD"),
            (chart(last, "null", "null"), "99 7.5 USD"),
            (chart(last, "[60]", "[3]"), "60 3 USD"),
            (chart("", "[60]", "[3]"), "60 3 -"),
            (chart(r#""currency":"GBp""#, "[60]", "[3]"), "60 3 GBp"),
            (chart(r#""currency":null"#, "[60]", "[3]"), "60 3 -"),
            (chart(usd, "[60]", "[null]"), "no price of AAPL now"),
            (chart(usd, "null", "null"), "no price of AAPL now"),
            (chart(r#""regularMarketPrice":1"#, "null", "null"), "no price"),
            (r#"{"chart":{"result":[],"error":null}}"#.to_owned(), "no price"),
            (r#"{"chart":{"result":null,"error":null}}"#.to_owned(), "no price"),
            (chart(usd, "[60]", "[0]"), "is refused: expected a number greater than 0, found 0"),
            (chart(usd, "[60]", "[-1.5]"), "is refused: expected a number greater than 0"),
            (chart(usd, "[60]", "[1e300]"), "is refused: expected a number from 0.00000001"),
            (chart(usd, "[60]", r#"["NaN"]"#), "is refused: expected a number, found"),
            (chart(usd, "[99999999999999999]", "[1]"), "is refused: expected a time in seconds"),
            (chart(r#""currency":"U$""#, "[60]", "[1]"), "is refused: expected a currency"),
            (chart(usd, "[60]", "[NaN]"), "source failed: expected a chart as JSON"),
            (chart(usd, "[60]", "[1e999]"), "source failed: expected a chart as JSON"),
            (error("Not Found", "No data found, symbol may be delisted"), "does not know"),
            (error("Too Many Requests", ""), "asks for fewer requests"),
            (error("Bad Request", "no\\nrange"), r#"found the error "Bad Request: no\nrange""#),
            (r#"{"price":1}"#.to_owned(), "expected a chart as JSON, found \"{"),
            (r#"{"chart":[]}"#.to_owned(), "source failed: expected a chart as JSON"),
            (r#"{"chart":{"result":{"meta":"too many requests"}}}"#.to_owned(), "source failed"),
            ("[".repeat(100_000), "source failed"),
            (String::new(), "found nothing"),
            ("Too Many Requests\r\n".to_owned(), "asks for fewer requests (again in a while)"),
            ("<html><h1>429 Too Many Requests".to_owned(), "asks for fewer requests"),
            ("<!doctype html><title>Sorry".to_owned(), "as JSON, found HTML"),
        ] {
            let found = match read("AAPL".parse().unwrap(), body.as_bytes()) {
                Ok(tick) => format!(
                    "{} {} {}",
                    tick.time.millis() / 1_000,
                    tick.price,
                    tick.currency.map_or("-".to_owned(), |currency| currency.to_string())
                ),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{body}\nexpected {expected}, found {found}");
        }
    }
}
