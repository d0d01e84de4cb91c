//! The one table from faults to gRPC codes.

use tonic::{Code, Status};

use crate::server::fault::Fault;
use crate::server::store::{Refusal, Reply};

/// The code of a refusal.
fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::EmailTaken => Code::AlreadyExists,
        Refusal::UnknownUser
        | Refusal::UnknownWatch
        | Refusal::NoWatch
        | Refusal::UnknownSymbol
        | Refusal::UnknownDeadLetter => Code::NotFound,
        Refusal::Thresholds(_) | Refusal::Invalid(_) => Code::InvalidArgument,
        Refusal::TooManyWatches(_) => Code::ResourceExhausted,
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = match &fault {
            Fault::Refused(refusal) => refusal_code(refusal),
            Fault::Conflict => Code::FailedPrecondition,
            Fault::Unauthenticated(_) => Code::Unauthenticated,
            Fault::Denied(_) => Code::PermissionDenied,
            Fault::Throttled { .. } | Fault::Exhausted(_) => Code::ResourceExhausted,
            Fault::Unavailable(_) => Code::Unavailable,
            Fault::Internal => Code::Internal,
        };
        Self::new(code, fault.to_string())
    }
}

/// What was done, or the refusal as a fault.
pub(super) fn done(reply: Reply) -> Result<Reply, Fault> {
    match reply {
        Reply::Refused(refusal) => Err(Fault::Refused(refusal)),
        done => Ok(done),
    }
}
