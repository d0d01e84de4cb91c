//! Port: where ticks from outside come in and become accepted.

use async_trait::async_trait;

use crate::model::Tick;
use crate::pipeline::broker::BrokerError;

/// The one way into the log of ticks.
///
/// *Order:* ticks of one symbol keep their order within a batch and, for a caller that awaits
/// its calls in turn, between batches; none is promised between callers.
///
/// *Durability:* when `accept` returns `Ok`, every tick that it did not refuse is in the log
/// for good. When it fails or is cancelled, any of them may have been appended: sending them
/// again is safe, because a repeated tick changes nothing.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Takes a batch in. The answer has one entry per tick, in the order given: the reason why
    /// it was refused (it lies in the future, for example), or `None` for an accepted one.
    async fn accept(&self, ticks: Vec<Tick>) -> Result<Vec<Option<String>>, BrokerError>;
}
