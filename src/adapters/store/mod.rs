//! Stores: everything but the log, as SQL databases keep it.

mod error;
mod letters;
pub mod mysql;
mod rows;
pub mod sqlite;
mod step;
mod views;

pub use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

use crate::pipeline::store::StoreError;

/// Runs to the end even when the caller goes away: a commit whose caller was gone would leave
/// its changes unannounced.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::Transient(format!("a command was interrupted: {error}"))),
    }
}
