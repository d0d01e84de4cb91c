//! Why a call was not answered as its caller hoped: shared by both APIs.

use crate::pipeline::broker::BrokerError;
use crate::pipeline::store::StoreError;
use crate::server::store::Refusal;

/// Why a call failed. Only a [`Refusal`] is an answer that is recorded for repetitions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The rules say no, now and for every repetition.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The request id was used for something else.
    #[error(
        "this request id was used before for another request: expected the same method and \
         content, or a new id"
    )]
    Conflict,
    /// Who calls is not known.
    #[error("{0}")]
    Unauthenticated(String),
    /// Who calls may not do this.
    #[error("{0}")]
    Denied(String),
    /// Too many attempts.
    #[error("too many attempts: try again in {retry_after_s} s")]
    Throttled {
        /// Seconds after which the next one is let through.
        retry_after_s: u64,
    },
    /// A bound was met.
    #[error("{0}")]
    Exhausted(String),
    /// It may work later.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work later either, and is nothing that the caller can mend.
    #[error("the server failed; its log says more")]
    Internal,
}

impl Fault {
    /// A refusal of what a caller gave, naming it: `symbol: expected ..., found ...`.
    pub fn invalid(reason: impl ToString) -> Self {
        Self::Refused(Refusal::Invalid(reason.to_string()))
    }

    /// A failure for the log, of which callers learn no details.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a call failed within");
        Self::Internal
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "a call met a store that is not available");
            Self::Unavailable("the store is not available: try again".to_owned())
        } else {
            Self::internal(&error)
        }
    }
}

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Full { .. } => Self::Unavailable(error.to_string()),
            BrokerError::Transient(_) | BrokerError::Closed => {
                tracing::warn!(%error, "a call met a broker that is not available");
                Self::Unavailable("the broker is not available: try again".to_owned())
            }
            BrokerError::TooLarge { .. } => Self::Exhausted(error.to_string()),
            _ => Self::internal(&error),
        }
    }
}
