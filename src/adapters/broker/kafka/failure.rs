//! What an error of rskafka, or of [`super::wire`], means for the request that met it.

use kafka_protocol::ResponseError;
use rskafka::client::error::{Error, ProtocolError, RequestError};

use super::wire::WireError;

/// How a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was sent, because no connection to the leader could be had.
    NotSent(String),
    /// The broker refused and did nothing; it may not the next time.
    Refused(String),
    /// Whether it happened is not known: the answer is missing, or says so.
    Unknown(String),
    /// Larger than the broker takes.
    TooLarge,
    /// The offset is not within the partition's bounds.
    OutOfRange,
    /// It will not work later either.
    Fatal(String),
}

impl Failure {
    /// Of a request that was sent over a connection.
    pub(super) fn of(error: &Error) -> Self {
        let text = || error.to_string();
        match error {
            // Every retry is ours, so this only wraps the first failure.
            Error::RetryFailed(wrapper) => {
                let rskafka::BackoffError::DeadlineExceded { source, .. } = wrapper;
                source.downcast_ref().map_or_else(|| Self::Unknown(text()), Self::of)
            }
            Error::Connection(_) => Self::NotSent(text()),
            Error::Request(RequestError::NoVersionMatch { .. }) => Self::Fatal(text()),
            Error::ServerError { protocol_error, .. } => Self::of_code(*protocol_error),
            _ => Self::Unknown(text()),
        }
    }

    fn of_code(code: ProtocolError) -> Self {
        match code {
            ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge => Self::TooLarge,
            ProtocolError::OffsetOutOfRange => Self::OutOfRange,
            ProtocolError::NotEnoughReplicasAfterAppend | ProtocolError::RequestTimedOut => {
                Self::Unknown(code.to_string())
            }
            ProtocolError::NotEnoughReplicas
            | ProtocolError::NotLeaderOrFollower
            | ProtocolError::LeaderNotAvailable
            | ProtocolError::ReplicaNotAvailable
            | ProtocolError::BrokerNotAvailable
            | ProtocolError::UnknownTopicOrPartition
            | ProtocolError::KafkaStorageError
            | ProtocolError::CoordinatorLoadInProgress
            | ProtocolError::CoordinatorNotAvailable
            | ProtocolError::NetworkException
            | ProtocolError::FencedLeaderEpoch
            | ProtocolError::UnknownLeaderEpoch
            | ProtocolError::OffsetNotAvailable
            | ProtocolError::CorruptMessage => Self::Refused(code.to_string()),
            _ => Self::Fatal(code.to_string()),
        }
    }

    /// Whether the connection it met is of no more use: lost, or not to the leader.
    pub(super) const fn ends_connection(&self) -> bool {
        !matches!(self, Self::TooLarge | Self::OutOfRange)
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        match &error {
            WireError::Refused { error: ResponseError::OffsetOutOfRange, .. } => Self::OutOfRange,
            WireError::Refused { .. } if error.is_transient() => Self::Refused(error.to_string()),
            WireError::Refused { .. } => Self::Fatal(error.to_string()),
            WireError::Unreachable(_) | WireError::Malformed(_) => Self::Unknown(error.to_string()),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(cause) | Self::Refused(cause) | Self::Fatal(cause) => f.write_str(cause),
            Self::Unknown(cause) => write!(f, "{cause} (the outcome is not known)"),
            Self::TooLarge => f.write_str("larger than the broker takes"),
            Self::OutOfRange => f.write_str("the offset lies outside the log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_by_whether_the_append_may_have_happened() {
        let refused = |code| matches!(Failure::of_code(code), Failure::Refused(_));
        let unknown = |code| matches!(Failure::of_code(code), Failure::Unknown(_));
        let fatal = |code| matches!(Failure::of_code(code), Failure::Fatal(_));
        assert!(refused(ProtocolError::NotEnoughReplicas));
        assert!(refused(ProtocolError::KafkaStorageError));
        assert!(unknown(ProtocolError::NotEnoughReplicasAfterAppend));
        assert!(unknown(ProtocolError::RequestTimedOut));
        assert!(fatal(ProtocolError::TopicAuthorizationFailed));
        assert_eq!(Failure::of_code(ProtocolError::MessageTooLarge), Failure::TooLarge);
        assert_eq!(Failure::of_code(ProtocolError::OffsetOutOfRange), Failure::OutOfRange);
    }

    #[test]
    fn a_failed_retry_is_judged_by_what_failed() {
        let source = Error::ServerError {
            protocol_error: ProtocolError::NotLeaderOrFollower,
            error_message: None,
            request: rskafka::client::error::RequestContext::Topic("t".into()),
            response: None,
            is_virtual: false,
        };
        let wrapped = Error::RetryFailed(rskafka::BackoffError::DeadlineExceded {
            deadline: std::time::Duration::ZERO,
            source: Box::new(source),
        });
        assert!(matches!(Failure::of(&wrapped), Failure::Refused(_)));
        let lost = Error::Request(RequestError::IO(std::io::Error::other("reset")));
        assert!(matches!(Failure::of(&lost), Failure::Unknown(_)));
    }
}
