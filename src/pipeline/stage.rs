//! The stages of a pipeline: source → evaluate → dedupe → journal → notify.
//!
//! Generic in their records, so that a program can run them with a source, a rule and a sink of
//! its own. `evaluate` and `dedupe` are plain functions over batches: no I/O, no clock, no locks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::marker::PhantomData;

use async_trait::async_trait;
use futures::{Stream, StreamExt};

use super::broker::BrokerError;
use super::store::StoreError;

/// Why a stage failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It may work when the same is tried again.
    #[error("{0}")]
    Transient(String),
    /// Somebody else goes on with what this pipeline did: it ends, and nothing is wrong.
    #[error("{0}")]
    Overtaken(String),
    /// It will not: the pipeline ends with this.
    #[error("{0}")]
    Permanent(String),
}

impl StageError {
    fn new(transient: bool, reason: String) -> Self {
        if transient { Self::Transient(reason) } else { Self::Permanent(reason) }
    }
}

impl From<BrokerError> for StageError {
    fn from(error: BrokerError) -> Self {
        Self::new(error.is_transient(), error.to_string())
    }
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced { .. } => Self::Overtaken(error.to_string()),
            other => Self::new(other.is_transient(), other.to_string()),
        }
    }
}

/// Whether a source goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// There may be more.
    More,
    /// That was all.
    End,
}

/// Where records come from.
#[async_trait]
pub trait Source: Send {
    /// One record.
    type Item: Send;

    /// Waits for records and appends them to `batch`, in order; it may append none. Cancel-safe:
    /// what a cancelled call would have returned, the next one returns.
    async fn next(&mut self, batch: &mut Vec<Self::Item>) -> Result<Flow, StageError>;
}

/// What is done with a batch: pure and synchronous.
pub trait Evaluate<In>: Send {
    /// What comes of a batch.
    type Out: Default + Send;

    /// Takes records from the front of `batch` and adds what comes of them to `out`. It may leave
    /// some, so that `out` stays bounded: they are evaluated next, before any others are read.
    fn evaluate(&mut self, batch: &mut Vec<In>, out: &mut Self::Out);
}

/// Takes away what was told before: pure and synchronous.
pub trait Dedupe<Out>: Send {
    /// Removes from `out` what is a repetition.
    fn dedupe(&mut self, out: &mut Out);
}

/// Makes what came of a batch durable before anybody is told.
#[async_trait]
pub trait Journal<Out>: Send {
    /// Commits `out`, all or nothing. Called again with the same `out` after a transient failure,
    /// so a repetition must do no harm.
    async fn commit(&mut self, out: &mut Out) -> Result<(), StageError>;
}

/// Tells what was committed.
#[async_trait]
pub trait Notify<Out>: Send {
    /// Passes `out` on. Called again with what it left of `out` after a transient failure: what it
    /// does may repeat.
    async fn notify(&mut self, out: &mut Out) -> Result<(), StageError>;
}

/// A source made of any stream, in batches of what is ready.
pub struct FromStream<S>(S);

/// The items of a stream as a source.
pub fn from_stream<S: Stream + Send + Unpin>(stream: S) -> FromStream<S> {
    FromStream(stream)
}

#[async_trait]
impl<S> Source for FromStream<S>
where
    S: Stream + Send + Unpin,
    S::Item: Send,
{
    type Item = S::Item;

    async fn next(&mut self, batch: &mut Vec<S::Item>) -> Result<Flow, StageError> {
        const BATCH_MAX: usize = 1_000;
        let Some(first) = self.0.next().await else { return Ok(Flow::End) };
        batch.push(first);
        while batch.len() < BATCH_MAX {
            match futures::poll!(self.0.next()) {
                std::task::Poll::Ready(Some(item)) => batch.push(item),
                std::task::Poll::Ready(None) => return Ok(Flow::End),
                std::task::Poll::Pending => break,
            }
        }
        Ok(Flow::More)
    }
}

/// A rule that looks at one record at a time.
pub struct Each<F>(F);

/// Evaluates each record by itself: `rule` says what, if anything, is to be told of it.
pub fn each<In, T, F: FnMut(In) -> Option<T>>(rule: F) -> Each<F> {
    Each(rule)
}

impl<In, T, F> Evaluate<In> for Each<F>
where
    T: Send,
    F: FnMut(In) -> Option<T> + Send,
{
    type Out = Vec<T>;

    fn evaluate(&mut self, batch: &mut Vec<In>, out: &mut Vec<T>) {
        out.extend(batch.drain(..).filter_map(&mut self.0));
    }
}

/// Passes an item on only if its state differs from the last one of its key.
pub struct Changes<K, V, F> {
    last: HashMap<K, V>,
    key_and_state: F,
}

/// Tells only real changes of state: `key_and_state` says what an item is about, and the state
/// that it tells. Remembers one state a key.
pub fn changes<T, K, V, F: FnMut(&T) -> (K, V)>(key_and_state: F) -> Changes<K, V, F> {
    Changes { last: HashMap::new(), key_and_state }
}

impl<T, K, V, F> Dedupe<Vec<T>> for Changes<K, V, F>
where
    K: Eq + Hash + Send,
    V: PartialEq + Send,
    F: FnMut(&T) -> (K, V) + Send,
{
    fn dedupe(&mut self, out: &mut Vec<T>) {
        out.retain(|item| {
            let (key, state) = (self.key_and_state)(item);
            match self.last.get_mut(&key) {
                Some(last) if *last == state => false,
                Some(last) => {
                    *last = state;
                    true
                }
                None => {
                    self.last.insert(key, state);
                    true
                }
            }
        });
    }
}

/// The newest keys that passed: a bounded memory of what is a repetition.
#[derive(Debug)]
pub struct Recent<K> {
    order: VecDeque<K>,
    known: HashSet<K>,
    keys_max: usize,
}

impl<K: Eq + Hash + Copy> Recent<K> {
    /// Remembers `keys_max` keys, at least one.
    pub fn new(keys_max: usize) -> Self {
        Self { order: VecDeque::new(), known: HashSet::new(), keys_max: keys_max.max(1) }
    }

    /// Whether the key is new; it is known from here on.
    pub fn insert(&mut self, key: K) -> bool {
        if !self.known.insert(key) {
            return false;
        }
        if self.order.len() == self.keys_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(key);
        true
    }
}

/// Passes everything on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl<Out> Dedupe<Out> for Everything {
    fn dedupe(&mut self, _: &mut Out) {}
}

/// Keeps no journal: what is in flight when the process dies is evaluated anew, or lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJournal;

#[async_trait]
impl<Out: Send> Journal<Out> for NoJournal {
    async fn commit(&mut self, _: &mut Out) -> Result<(), StageError> {
        Ok(())
    }
}

/// A sink that takes one item at a time.
pub struct ToEach<T, F>(F, PhantomData<fn(T)>);

/// Tells each item by calling `tell`.
pub fn to_each<T, F: FnMut(&T)>(tell: F) -> ToEach<T, F> {
    ToEach(tell, PhantomData)
}

#[async_trait]
impl<T, F> Notify<Vec<T>> for ToEach<T, F>
where
    T: Send,
    F: FnMut(&T) + Send,
{
    async fn notify(&mut self, out: &mut Vec<T>) -> Result<(), StageError> {
        out.drain(..).for_each(|item| (self.0)(&item));
        Ok(())
    }
}
