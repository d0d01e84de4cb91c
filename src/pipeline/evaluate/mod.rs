//! Evaluation: from ticks to alerts.

mod store;

pub use store::{
    Applied, ChangeId, ChangeKind, EvaluateStore, Evaluation, NumberedAlert, Owned, PendingChange,
    PricePoint, SymbolState,
};
