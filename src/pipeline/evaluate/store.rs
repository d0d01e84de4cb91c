//! Port: what the evaluator needs of the store. Each method is one transaction.

use async_trait::async_trait;

use crate::model::{
    Alert, AlertSeq, Currency, LastTick, MarketState, Offset, Partition, Price, Symbol, Timestamp,
    Version, Watch, WatchId, WatchState,
};
use crate::pipeline::store::{DeadRecord, Fence, Span, StoreError, TopicStore};

/// A partition that was just taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The right to commit; every earlier one is void.
    pub fence: Fence,
    /// Where to read on.
    pub position: Offset,
    /// The number of the last alert made.
    pub last: AlertSeq,
    /// The number of the last alert known to be published.
    pub published: AlertSeq,
}

/// The state of a symbol. Only the evaluator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolState {
    /// The symbol.
    pub symbol: Symbol,
    /// Its last tick that counted; `None` after a reset.
    pub last: Option<LastTick>,
    /// The currency pinned on it.
    pub currency: Option<Currency>,
    /// The state of its market, as the last tick stated it.
    pub market: Option<MarketState>,
    /// How many prices of it were kept: the number of the newest in [`PricePoint::number`].
    pub prices: u64,
}

/// A price for the history: at most one per symbol and second, the last of that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricePoint {
    /// The symbol.
    pub symbol: Symbol,
    /// Counts the symbol's kept prices from 1. A later price of the same second bears the same
    /// number and replaces it; the store keeps the newest N and may use `number % N` as a key.
    pub number: u64,
    /// Its instant.
    pub time: Timestamp,
    /// The price.
    pub price: Price,
}

/// The identity of a change in the store's list of those not applied yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeId(pub u64);

/// A change that some command made and no evaluation has applied yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// Its identity, named again when it was applied.
    pub id: ChangeId,
    /// The symbol that it concerns, which is of the partition asked for.
    pub symbol: Symbol,
    /// What is to be done.
    pub what: ChangeKind,
}

/// What a pending change asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Bring this watch in line with how it is now: `None` if it is deleted or on another
    /// symbol by now, so that this symbol has it no more. Changes carry no values of their own,
    /// so they may be applied in any order and any number of times.
    Watch {
        /// The watch.
        watch: WatchId,
        /// How it is now, with the evaluation state stored for it.
        current: Option<(Watch, WatchState)>,
    },
    /// An operator resets the symbol.
    Reset,
}

/// A change that this evaluation has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The change.
    pub id: ChangeId,
    /// Its symbol.
    pub symbol: Symbol,
    /// The watch and the version that is in effect from here on; `None` for a removal or reset.
    pub watch: Option<(WatchId, Version)>,
    /// The last tick of the symbol before it, so that a reference can repeat the run.
    pub after: Option<Timestamp>,
}

/// An alert with its number and the instant at which its tick was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberedAlert {
    /// Its number within the partition: 1 more than the one before.
    pub seq: AlertSeq,
    /// The alert.
    pub alert: Alert,
    /// When the tick that made it was accepted into the log.
    pub accepted: Timestamp,
}

/// All that one step of the evaluator changes: committed together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Alerts made. One whose id exists already is not made again; its number stays unused.
    pub alerts: Vec<NumberedAlert>,
    /// New states, at most one a watch. A state never replaces one of a newer version, and one
    /// of a watch that no longer exists is dropped.
    pub states: Vec<(WatchId, WatchState)>,
    /// New states of symbols, at most one a symbol.
    pub symbols: Vec<SymbolState>,
    /// Prices for the history, at most one a symbol and number.
    pub prices: Vec<PricePoint>,
    /// Changes applied; they are pending no more, and recorded for a while.
    pub applied: Vec<Applied>,
    /// Records that do not decode.
    pub dead: Vec<DeadRecord>,
    /// Alerts up to this number are published.
    pub published: AlertSeq,
}

/// The evaluator's transactions.
#[async_trait]
pub trait EvaluateStore: TopicStore {
    /// Takes a partition of the ticks' topic over: raises its epoch, which voids every earlier
    /// [`Fence`]. A partition never owned before stands at `earliest`, the first offset that the
    /// log still has.
    async fn own(&self, partition: Partition, earliest: Offset) -> Result<Owned, StoreError>;

    /// A page of the partition's symbols, by symbol, after `after`.
    async fn symbols(
        &self,
        partition: Partition,
        after: Option<Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolState>, StoreError>;

    /// A page of the partition's watches with their states, by id, after `after`. A state whose
    /// version is older than its watch's has a change pending.
    async fn watches(
        &self,
        partition: Partition,
        after: Option<WatchId>,
        limit: u32,
    ) -> Result<Vec<(Watch, WatchState)>, StoreError>;

    /// Some of the partition's pending changes, oldest first. Each committed change is seen here
    /// until an evaluation that applied it commits, whichever order commands commit in.
    async fn changes(
        &self,
        partition: Partition,
        limit: u32,
    ) -> Result<Vec<PendingChange>, StoreError>;

    /// Waits until [`changes`](Self::changes) may have something new. It may return early, and
    /// must return within a second of the commit of a change. Cancel-safe.
    async fn changed(&self, partition: Partition);

    /// Commits one step, if `fence` is still valid and the partition stands at `span.from`.
    /// `Fenced` otherwise, or `Position`; a step that has committed before is not repeated: when
    /// the partition stands at `span.to` under the same fence with the same last alert number,
    /// that is success.
    async fn commit(
        &self,
        fence: Fence,
        span: Span,
        evaluation: &Evaluation,
    ) -> Result<(), StoreError>;

    /// Committed alerts of the partition after number `after`, in order.
    async fn alerts_after(
        &self,
        partition: Partition,
        after: AlertSeq,
        limit: u32,
    ) -> Result<Vec<NumberedAlert>, StoreError>;
}
