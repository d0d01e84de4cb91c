//! What the store knows, as messages of the API.

use crate::model::{Alert, MarketState, Policy, WatchId};
use crate::proto::v1;
use crate::server::store::{
    AlertView, DeadLetter, DeadLetterId, DeliveryState, Quote, Role, WatchView, told,
};

pub(super) fn role(role: Role) -> v1::Role {
    match role {
        Role::User => v1::Role::User,
        Role::Feeder => v1::Role::Feeder,
        Role::Operator => v1::Role::Operator,
    }
}

pub(super) fn quote(quote: &Quote) -> v1::Quote {
    v1::Quote {
        symbol: quote.symbol.to_string(),
        time: quote.time.to_string(),
        price: quote.price.to_string(),
        currency: quote.currency.map(|currency| currency.to_string()).unwrap_or_default(),
        market: quote.market.map_or(v1::MarketState::Unspecified, market).into(),
    }
}

fn market(state: MarketState) -> v1::MarketState {
    match state {
        MarketState::Pre => v1::MarketState::Pre,
        MarketState::Regular => v1::MarketState::Regular,
        MarketState::Post => v1::MarketState::Post,
        MarketState::Closed => v1::MarketState::Closed,
    }
}

/// A watch; `note` says why its symbol has no price, where that is known.
pub(super) fn watch(view: &WatchView, note: Option<String>) -> v1::Watch {
    let (watch, spec) = (&view.watch, &view.watch.spec);
    let text =
        |price: Option<crate::model::Price>| price.map(|p| p.to_string()).unwrap_or_default();
    let (policy, step, hysteresis) = match spec.policy() {
        Policy::Crossing { hysteresis } => {
            (v1::Policy::Crossing, String::new(), hysteresis.to_string())
        }
        Policy::Step { step } => (v1::Policy::Step, step.to_string(), String::new()),
        Policy::Once => (v1::Policy::Once, String::new(), String::new()),
    };
    let status = status(view);
    let note = note.filter(|_| status == v1::WatchStatus::NoPrice);
    v1::Watch {
        id: watch.id.0,
        version: watch.version.0,
        symbol: spec.symbol().to_string(),
        low: text(spec.low()),
        high: text(spec.high()),
        policy: policy.into(),
        step,
        hysteresis,
        cooldown_seconds: spec.cooldown_s(),
        paused: watch.paused,
        status: status.into(),
        status_reason: note.unwrap_or_default(),
        last: view.last.as_ref().map(quote),
        told: told(&view.state).map(|condition| condition.to_string()).unwrap_or_default(),
    }
}

/// A watch that was deleted since the request that is repeated made it.
pub(super) fn gone_watch(id: u64) -> v1::Watch {
    v1::Watch { id: WatchId(id).0, ..v1::Watch::default() }
}

fn status(view: &WatchView) -> v1::WatchStatus {
    let told = told(&view.state).is_some();
    if view.watch.paused {
        v1::WatchStatus::Paused
    } else if told && view.watch.spec.policy() == Policy::Once {
        v1::WatchStatus::Done
    } else if view.last.is_none() {
        v1::WatchStatus::NoPrice
    } else if told {
        v1::WatchStatus::Told
    } else {
        v1::WatchStatus::Armed
    }
}

pub(super) fn alert(alert: &Alert, delivery: DeliveryState) -> v1::Alert {
    let delivery = match delivery {
        DeliveryState::Pending => v1::DeliveryState::Pending,
        DeliveryState::Delivered => v1::DeliveryState::Delivered,
        DeliveryState::Dead => v1::DeliveryState::Dead,
        DeliveryState::Cancelled => v1::DeliveryState::Cancelled,
    };
    v1::Alert {
        id: alert.id.to_string(),
        watch_id: alert.id.watch.0,
        time: alert.id.time.to_string(),
        symbol: alert.symbol.to_string(),
        condition: alert.id.condition.to_string(),
        price: alert.price.to_string(),
        threshold: alert.threshold.to_string(),
        delivery: delivery.into(),
    }
}

pub(super) fn alert_view(view: &AlertView) -> v1::Alert {
    alert(&view.alert, view.delivery)
}

pub(crate) fn dead_letter_id(id: DeadLetterId) -> String {
    match id {
        DeadLetterId::Delivery(id) => format!("delivery-{id}"),
        DeadLetterId::Record(id) => format!("record-{id}"),
    }
}

pub(super) fn dead_letter(letter: &DeadLetter) -> v1::DeadLetter {
    match letter {
        DeadLetter::Delivery { id, alert: told, email, attempts, reason, time } => v1::DeadLetter {
            id: dead_letter_id(DeadLetterId::Delivery(*id)),
            kind: v1::DeadLetterKind::Delivery.into(),
            time: time.to_string(),
            reason: reason.clone(),
            alert: Some(alert(told, DeliveryState::Dead)),
            email: email.to_string(),
            attempts: *attempts,
            ..v1::DeadLetter::default()
        },
        DeadLetter::Record { id, record, time } => v1::DeadLetter {
            id: dead_letter_id(DeadLetterId::Record(*id)),
            kind: v1::DeadLetterKind::Record.into(),
            time: time.to_string(),
            reason: record.reason.clone(),
            topic: record.topic.clone(),
            partition: record.partition.0,
            offset: record.offset.0,
            key: record.key.as_deref().map(<[u8]>::to_vec).unwrap_or_default(),
            value: record.value.to_vec(),
            ..v1::DeadLetter::default()
        },
    }
}
