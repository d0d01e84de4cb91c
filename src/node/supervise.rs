//! Keeping a part of the process running: transient failures start it over, permanent ones stop
//! it, say so, and leave the others alone.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::health::Handle;
use crate::pipeline::Backoff;
use crate::pipeline::stage::StageError;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Well, or because it was stopped.
    Done,
    /// Somebody else goes on with it.
    Overtaken,
    /// For good, with a reason that was reported.
    Failed,
}

/// Runs `start` again and again until it ends well, is overtaken, fails for good, or `stop` is
/// cancelled. `health` says how it is; whatever `start` begins says itself when it is ready.
pub(super) async fn supervise<F, R>(
    name: &str,
    health: Handle,
    backoff: &Backoff,
    stop: &CancellationToken,
    mut start: F,
) -> End
where
    F: FnMut() -> R,
    R: Future<Output = Result<(), StageError>>,
{
    let mut attempt = 0;
    loop {
        // A panic leaves nothing behind that anybody uses: the partition is taken over anew.
        let end = AssertUnwindSafe(start()).catch_unwind().await;
        let panicked = |_| Err(StageError::Permanent("it panicked: restart the process".into()));
        match end.unwrap_or_else(panicked) {
            Ok(()) => return End::Done,
            Err(StageError::Overtaken(reason)) => {
                tracing::warn!("{name} ends: {reason}");
                return End::Overtaken;
            }
            Err(StageError::Permanent(reason)) => {
                tracing::error!("{name} stops: {reason}");
                health.not_ready(&reason);
                return End::Failed;
            }
            Err(StageError::Transient(reason)) => {
                if stop.is_cancelled() {
                    return End::Done;
                }
                tracing::warn!("{name} starts over: {reason}");
                health.not_ready(&reason);
                if stop.run_until_cancelled(backoff.wait(attempt)).await.is_none() {
                    return End::Done;
                }
                attempt += 1;
            }
        }
    }
}
