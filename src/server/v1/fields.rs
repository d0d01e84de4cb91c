//! Fields of requests: each error names the field, what was expected and what was found.

use std::fmt::Display;
use std::str::FromStr;

use crate::model::{Email, PolicyKind, Price, Symbol, Tick, WatchSpec, WatchSpecError};
use crate::proto::v1;
use crate::server::password::check_password;
use crate::server::store::{DeadLetterId, Refusal};

/// A field that must be there.
pub(super) fn required<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error| Refusal::Invalid(format!("{field}: {error}")))
}

/// A field whose empty text stands for none.
pub(super) fn optional<T: FromStr<Err: Display>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, Refusal> {
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

/// A password to set.
pub(super) fn password(field: &str, text: String) -> Result<String, Refusal> {
    check_password(field, &text).map_err(Refusal::Invalid)?;
    Ok(text)
}

/// An e-mail address.
pub(super) fn email(text: &str) -> Result<Email, Refusal> {
    required("email", text)
}

/// A symbol.
pub(super) fn symbol(text: &str) -> Result<Symbol, Refusal> {
    required("symbol", text)
}

/// A policy's name; `None` where it is left open.
pub(super) fn policy(number: i32) -> Result<Option<PolicyKind>, Refusal> {
    match v1::Policy::try_from(number) {
        Ok(v1::Policy::Unspecified) => Ok(None),
        Ok(v1::Policy::Crossing) => Ok(Some(PolicyKind::Crossing)),
        Ok(v1::Policy::Step) => Ok(Some(PolicyKind::Step)),
        Ok(v1::Policy::Once) => Ok(Some(PolicyKind::Once)),
        Err(_) => Err(Refusal::Invalid(format!(
            "policy: expected 1 (crossing), 2 (step) or 3 (once), found {number}"
        ))),
    }
}

/// A cooldown in seconds.
pub(super) fn cooldown(seconds: u64) -> Result<u64, Refusal> {
    if seconds > WatchSpec::COOLDOWN_S_MAX {
        let error = WatchSpecError::Cooldown(seconds);
        return Err(Refusal::Invalid(format!("cooldown_seconds: {error}")));
    }
    Ok(seconds)
}

/// What a new watch asks for.
pub(crate) fn watch_spec(request: &v1::CreateWatchRequest) -> Result<WatchSpec, Refusal> {
    let symbol = symbol(&request.symbol)?;
    let low: Option<Price> = optional("low", &request.low)?;
    let high: Option<Price> = optional("high", &request.high)?;
    let kind = policy(request.policy)?.unwrap_or_default();
    let step = optional("step", &request.step)?;
    let hysteresis = optional("hysteresis", &request.hysteresis)?;
    let cooldown = cooldown(request.cooldown_seconds)?;
    WatchSpec::new(symbol, low, high, kind.with(step, hysteresis), cooldown)
        .map_err(|error| Refusal::Invalid(format!("low and high: {error}")))
}

/// A number within bounds; 0 stands for the default, if there is one.
pub(super) fn count(
    field: &str,
    found: u32,
    default: Option<u32>,
    max: u32,
) -> Result<u32, Refusal> {
    match (found, default) {
        (0, Some(default)) => Ok(default),
        (0, None) => Err(Refusal::Invalid(format!("{field}: expected 1 to {max}, found 0"))),
        (found, _) if found > max => {
            Err(Refusal::Invalid(format!("{field}: expected at most {max}, found {found}")))
        }
        (found, _) => Ok(found),
    }
}

/// How many entries of a listing a page has.
pub(super) fn page_size(found: u32) -> Result<u32, Refusal> {
    count("page_size", found, Some(100), 1_000)
}

/// Where a page begins.
pub(crate) fn page_token<T: FromStr>(text: &str) -> Result<Option<T>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Refusal::Invalid(format!(
            "page_token: expected the next_page_token of the page before, found {:?}",
            short(text)
        ))
    })
}

/// The id of a dead letter.
pub(crate) fn dead_letter_id(field: &str, text: &str) -> Result<DeadLetterId, Refusal> {
    let number = |prefix| text.strip_prefix(prefix).and_then(|number| number.parse().ok());
    number("delivery-")
        .map(DeadLetterId::Delivery)
        .or_else(|| number("record-").map(DeadLetterId::Record))
        .ok_or_else(|| {
            Refusal::Invalid(format!(
                "{field}: expected an id such as delivery-17 or record-4, found {:?}",
                short(text)
            ))
        })
}

/// A tick, or the kind and the reason of its refusal.
pub(crate) fn tick(input: &v1::TickInput) -> Result<Tick, (&'static str, String)> {
    let as_kind = |kind| move |refusal: Refusal| (kind, refusal.to_string());
    Ok(Tick {
        symbol: symbol(&input.symbol).map_err(as_kind("symbol"))?,
        time: required("time", &input.time).map_err(as_kind("unknown"))?,
        price: required("price", &input.price).map_err(as_kind("price"))?,
        currency: optional("currency", &input.currency).map_err(as_kind("currency"))?,
        market: None,
    })
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
