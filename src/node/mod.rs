//! The nodes: which parts of the graph run in this process, each under a supervisor.
//!
//! A node's code is the same in every topology; what differs is the adapters that it is given.

mod admin;
mod balance;
mod collector;
mod consumer;
mod embedded;
mod evaluator;
mod graph;
mod grow;
mod notifier;
mod parts;
mod process;
mod roles;
mod supervise;
mod wait;

pub use admin::{Admin, AdminOptions, create_topics};
pub use collector::{Ages, Collector, CollectorOptions};
pub use consumer::{MemberOptions, Share};
pub use embedded::{DataDir, EmbedError, Embedded, Import};
pub use evaluator::evaluate;
pub use graph::Graph;
pub use grow::{GrowError, GrowOptions, Growing, Grown};
pub use notifier::notify;
pub use parts::{Feed, GraphOptions, NotifyOptions, Shared, StartError, Stores, TopicOptions};
pub use process::{Process, ProcessError};
pub use roles::{Role, Roles, RolesError};
