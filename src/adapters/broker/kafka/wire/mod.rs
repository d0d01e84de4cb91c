//! A small client for the requests that rskafka does not make, or not fast enough: topics with their
//! ids and configs, replicas, groups' offsets, where a partition begins and ends, and fetches.
//!
//! It speaks to each broker over one connection and to the leader of each partition that is read
//! over one more, one request at a time, and gives a connection up at the first sign of trouble.

mod cluster;
mod connection;
mod fetch;
mod groups;
mod offsets;
mod topics;

pub use cluster::Cluster;
pub use fetch::FetchLine;
pub use groups::Offsets;
pub use topics::Created;

pub use crate::pipeline::cluster::{BrokerNode, ClusterView, PartitionView, TopicView};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use crate::pipeline::broker::BrokerError;

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No broker answered; what was asked may have happened.
    #[error("{0}")]
    Unreachable(String),
    /// A broker refused.
    #[error("Kafka refused {what}: {error}{}", message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        what: String,
        /// The protocol's error.
        error: ResponseError,
        /// The broker's own words.
        message: Option<String>,
    },
    /// A broker answered something that cannot be understood.
    #[error("Kafka answered {0}")]
    Malformed(String),
}

impl WireError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { error, .. } => error.is_retriable(),
            Self::Malformed(_) => false,
        }
    }

    /// The protocol's error, if a broker gave one.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { error, .. } => Some(*error),
            _ => None,
        }
    }
}

impl From<WireError> for BrokerError {
    fn from(error: WireError) -> Self {
        if error.is_transient() {
            Self::Transient(error.to_string())
        } else {
            Self::Permanent(error.to_string())
        }
    }
}

/// Refuses what a broker's error code says; `what` names what was asked.
fn check(code: i16, what: &str, message: Option<&StrBytes>) -> Result<(), WireError> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) => Err(WireError::Refused {
            what: what.to_owned(),
            error,
            message: message.filter(|text| !text.is_empty()).map(ToString::to_string),
        }),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
