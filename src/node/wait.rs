//! Waiting for what a process needs and others provide: it keeps trying and says so.

use crate::health::Health;
use crate::pipeline::Backoff;

/// Calls `attempt` until it succeeds or fails for good. The component `what` is not ready
/// meanwhile, for the reason that the last attempt gave, and none of the process's afterwards.
pub(super) async fn keep_trying<T, E: std::fmt::Display>(
    what: &str,
    health: &Health,
    backoff: &Backoff,
    is_transient: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let component = health.component(what);
    component.not_ready("it has not answered yet");
    tracing::info!("connecting to {what}");
    let mut attempts = 0;
    loop {
        match attempt().await {
            Ok(found) => {
                component.gone();
                return Ok(found);
            }
            Err(error) if is_transient(&error) => {
                tracing::warn!("waiting for {what}: {error}");
                component.not_ready(&error.to_string());
                backoff.wait(attempts).await;
                attempts += 1;
            }
            Err(error) => {
                component.not_ready(&error.to_string());
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapters::clock::{SeededRandom, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn it_tries_until_it_works_or_cannot_work() {
        let health = Health::new();
        let backoff = Backoff::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(1)));
        let mut calls = 0;
        let seen = health.clone();
        let found = keep_trying(
            "the store",
            &health,
            &backoff,
            |_| true,
            async || {
                calls += 1;
                match calls {
                    1..4 => Err(format!("refused {calls}")),
                    _ => Ok(seen.not_ready()["the store"].clone()),
                }
            },
        );
        assert_eq!(found.await, Ok("refused 3".to_owned()));
        assert!(health.is_ready());
        let failed: Result<(), _> =
            keep_trying("the store", &health, &backoff, |_| false, async || Err("no")).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(health.not_ready()["the store"], "no");
    }
}
