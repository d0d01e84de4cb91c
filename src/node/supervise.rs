//! Keeping a partition's pipeline running: transient failures start it over, permanent ones stop
//! that partition, say so, and leave the others alone.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::health::Handle;
use crate::pipeline::Backoff;
use crate::pipeline::stage::StageError;

/// Runs `start` again and again until it ends well, fails for good, or `stop` is cancelled.
/// `health` says how it is; whatever `start` begins says itself when it is ready.
pub(super) async fn supervise<F, R>(
    name: &str,
    health: Handle,
    backoff: &Backoff,
    stop: &CancellationToken,
    mut start: F,
) where
    F: FnMut() -> R,
    R: Future<Output = Result<(), StageError>>,
{
    for attempt in 0.. {
        match start().await {
            Ok(()) => return,
            Err(StageError::Permanent(reason)) => {
                tracing::error!("{name} stops: {reason}");
                health.not_ready(&reason);
                return;
            }
            Err(StageError::Transient(reason)) => {
                if stop.is_cancelled() {
                    return;
                }
                tracing::warn!("{name} starts over: {reason}");
                health.not_ready(&reason);
                if stop.run_until_cancelled(backoff.wait(attempt)).await.is_none() {
                    return;
                }
            }
        }
    }
}
