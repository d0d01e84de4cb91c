//! Why a command failed, what to do next, and the exit status that says so.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use tonic::{Code, Status};

use super::output::printable;

/// Something was done wrong, by whomever.
const FAILED: u8 = 1;
/// The command or its input was wrong.
const BAD_INPUT: u8 = 2;

/// Why a command ends before its end.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    message: String,
    next: Option<String>,
}

impl Failure {
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { status: FAILED, message: message.into(), next: None }
    }

    pub(super) fn bad_input(message: impl Into<String>) -> Self {
        Self { status: BAD_INPUT, message: message.into(), next: None }
    }

    /// What to do about it, unless that is known already.
    pub(super) fn or_next(mut self, next: impl Into<String>) -> Self {
        self.next.get_or_insert_with(|| next.into());
        self
    }

    /// What the server at `server` answered, or why nothing did.
    pub(super) fn of_status(status: &Status, server: &str) -> Self {
        if let Some(cause) = unreachable_cause(status) {
            return Self::unreachable(server, &cause);
        }
        let message = status.message();
        let message = if message.is_empty() { status.code().description() } else { message };
        let (exit, next) = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => (BAD_INPUT, None),
            Code::Unauthenticated => (FAILED, Some("run `tripline login EMAIL`")),
            Code::PermissionDenied => (
                FAILED,
                Some(
                    "on the server's host, `tripline user role EMAIL feeder|operator` gives an \
                     account its role",
                ),
            ),
            Code::ResourceExhausted => (FAILED, Some("try again in a while")),
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => {
                (FAILED, Some("the server is busy or stopping: try again"))
            }
            Code::Unimplemented => (FAILED, Some("is it a Tripline server, and of this version?")),
            Code::Internal | Code::Unknown | Code::DataLoss => {
                (FAILED, Some("the server's log says more"))
            }
            _ => (FAILED, None),
        };
        Self { status: exit, message: printable(message), next: next.map(str::to_owned) }
    }

    fn unreachable(server: &str, cause: &str) -> Self {
        let next = if cause.contains("refused") {
            "is `tripline serve` running? --server URL or TRIPLINE_SERVER names another server"
        } else if cause.contains("certificate") {
            "--ca FILE names a PEM file of the authority to trust"
        } else {
            "check --server: http://HOST:PORT, or https://HOST:PORT for a server with TLS"
        };
        Self::failed(format!("expected a server at {server}, found: {cause}")).or_next(next)
    }

    /// Says it on standard error, and gives the exit status.
    pub(super) fn report(&self) -> ExitCode {
        if self.status != 0 {
            note(&format!("error: {}", self.message));
            if let Some(next) = &self.next {
                note(&format!("next: {next}"));
            }
        }
        ExitCode::from(self.status)
    }
}

impl From<io::Error> for Failure {
    /// A failure to write to standard output.
    fn from(cause: io::Error) -> Self {
        if cause.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read the output has seen enough, such as `head`.
            return Self { status: 0, message: String::new(), next: None };
        }
        Self::failed(format!("standard output: expected to write, found: {cause}"))
    }
}

/// Says something on standard error.
pub(super) fn note(message: &str) {
    // There is no other place to say that standard error is gone.
    let _ = io::Write::write_all(&mut io::stderr(), format!("{message}\n").as_bytes());
}

/// Whether the same call may succeed in a while.
pub(super) fn is_transient(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        || unreachable_cause(status).is_some_and(|cause| !cause.contains("certificate"))
}

/// Why no answer came, if none did.
fn unreachable_cause(status: &Status) -> Option<String> {
    let mut source = status.source()?;
    let mut is_transport = false;
    loop {
        is_transport |= source.is::<tonic::transport::Error>();
        match source.source() {
            Some(deeper) => source = deeper,
            None => return is_transport.then(|| source.to_string()),
        }
    }
}
