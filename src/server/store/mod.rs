//! Ports: what the server needs of the store. Commands change, queries read; both APIs share them.

mod accounts;
mod commands;
mod operator;
mod queries;

pub use accounts::{Account, AccountStore, Opened, PasswordMark, Role, Session, password_mark};
pub use commands::{
    Command, CommandStore, PolicyPatch, Recorded, Refusal, Reply, Request, RequestKey, Threshold,
    WatchPatch, WatchRef,
};
pub use operator::{Backlog, DeadLetter, DeadLetterId, DeadLetters, OperatorStore};
pub use queries::{AlertView, DeliveryState, QueryStore, Quote, WatchView, told};
