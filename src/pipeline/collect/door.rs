//! Port: where ticks enter the graph.

use async_trait::async_trait;

use crate::model::Tick;
use crate::pipeline::broker::BrokerError;
use crate::trace::TraceParent;

/// Takes ticks in, from the collector as from those who push.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Accepts ticks: when it returns `Ok`, those that were not refused are in the log, durably
    /// if the log is durable, those of one symbol in the order given. Returns, tick by tick, why
    /// it was refused. After an error some may have been accepted: repeating them is harmless,
    /// as a repeated tick changes nothing. Where `before` is the sampled span of whoever brings
    /// them, their trace goes on from it.
    async fn accept(
        &self,
        ticks: Vec<Tick>,
        before: Option<TraceParent>,
    ) -> Result<Vec<Option<String>>, BrokerError>;
}
