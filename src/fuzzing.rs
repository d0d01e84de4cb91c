//! Readers of outside bytes that nothing but their own module uses, within the reach of the fuzz
//! targets. Nobody else's: what is here may change with any commit.
#![allow(missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use crate::adapters::broker::codec;
use crate::adapters::market::yahoo::{answer, fetch};
use crate::model::{Symbol, Tick, Timestamp, WatchSpec};
use crate::pipeline::broker::Record;
use crate::pipeline::collect::MarketError;
use crate::proto::v1;
use crate::server::store::{DeadLetterId, Refusal, Threshold};
use crate::server::v1::{fields, views};
use crate::server::{deadline, legacy};

/// The next record of a batch of an embedded log, taken off it.
pub fn batch_record(body: &mut Bytes) -> Option<Record> {
    codec::decode(body).ok()
}

pub fn batch_of(records: &[Record]) -> Bytes {
    codec::encode(records)
}

pub fn yahoo_answer(symbol: Symbol, body: &[u8]) -> Result<Tick, MarketError> {
    answer::read(symbol, body)
}

/// The `Retry-After` of an answer; `None` also for bytes that no header can hold.
pub fn retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
    let value = HeaderValue::from_bytes(value).ok()?;
    fetch::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
}

/// The `grpc-timeout` of a call; `None` also for bytes that no header can hold.
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let value = HeaderValue::from_bytes(value).ok()?;
    let name = reqwest::header::HeaderName::from_static("grpc-timeout");
    deadline::asked(&HeaderMap::from_iter([(name, value)]))
}

/// A threshold of the original's API.
pub fn legacy_threshold(value: f32) -> Result<Threshold, Refusal> {
    legacy::answers::read_threshold("low_value", value)
}

pub fn watch_spec(request: &v1::CreateWatchRequest) -> Result<WatchSpec, Refusal> {
    fields::watch_spec(request)
}

pub fn tick(input: &v1::TickInput) -> Result<Tick, (&'static str, String)> {
    fields::tick(input)
}

pub fn page_token<T: std::str::FromStr>(text: &str) -> Result<Option<T>, Refusal> {
    fields::page_token(text)
}

pub fn dead_letter_id(text: &str) -> Result<DeadLetterId, Refusal> {
    fields::dead_letter_id("id", text)
}

pub fn dead_letter_text(id: DeadLetterId) -> String {
    views::dead_letter_id(id)
}
