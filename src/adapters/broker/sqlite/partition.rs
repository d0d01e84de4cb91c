//! What the callers and the writer share: the topics, and each partition's ends and tail.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SqliteLogOptions;
use super::schema::{self, StoredPartition};
use crate::adapters::broker::batch::{Batch, Batches};
use crate::adapters::broker::positions::Positions;
use crate::adapters::broker::{count, lock};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{self, Bounds, BrokerError, TopicId};
use crate::pipeline::clock::Clock;

/// The log in memory.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) options: SqliteLogOptions,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when callers must get `Closed`.
    pub(super) closed: CancellationToken,
    /// Cancelled when the writer has ended.
    pub(super) done: CancellationToken,
    pub(super) used: AtomicU64,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
}

/// A topic.
pub(super) struct Topic {
    id: TopicId,
    pub(super) partitions: Vec<Arc<Part>>,
    pub(super) positions: Mutex<Positions>,
    /// Whether the positions differ from the saved ones.
    pub(super) moved: AtomicBool,
}

impl Topic {
    /// The topic as callers see it.
    pub(super) fn found(&self) -> broker::Topic {
        broker::Topic { partitions: count(&self.partitions), id: self.id }
    }

    /// Bytes of records that it holds.
    pub(super) fn bytes(&self) -> u64 {
        let held = |extent: Extent| extent.bytes_total.saturating_sub(extent.bytes_dropped);
        self.partitions.iter().map(|part| held(part.extent())).sum()
    }
}

/// What a partition holds. The bytes are counted from its creation on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: Offset,
    pub(super) end: Offset,
    pub(super) bytes_dropped: u64,
    pub(super) bytes_total: u64,
}

/// A partition of a topic.
pub(super) struct Part {
    /// Its id in the file.
    pub(super) id: i64,
    pub(super) topic: String,
    pub(super) number: Partition,
    /// What readers wait for.
    pub(super) end: watch::Sender<Offset>,
    state: Mutex<PartState>,
}

struct PartState {
    extent: Extent,
    tail: Batches,
}

/// Where to read from.
pub(super) enum Source {
    /// These batches hold it; none if the offset is the end.
    Tail(Vec<Batch>),
    /// The file holds it, up to this offset.
    File(Offset),
}

impl Shared {
    pub(super) fn new(path: PathBuf, options: SqliteLogOptions, clock: Arc<dyn Clock>) -> Self {
        Self {
            path,
            options,
            clock,
            closed: CancellationToken::new(),
            done: CancellationToken::new(),
            used: AtomicU64::new(0),
            topics: RwLock::default(),
        }
    }

    pub(super) fn check_open(&self) -> Result<(), BrokerError> {
        if self.closed.is_cancelled() { Err(BrokerError::Closed) } else { Ok(()) }
    }

    pub(super) fn topic(&self, topic: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    pub(super) fn part(&self, topic: &str, partition: Partition) -> Result<Arc<Part>, BrokerError> {
        self.topic(topic)
            .and_then(|topic| topic.partitions.get(partition.0 as usize).cloned())
            .ok_or_else(|| BrokerError::Unknown { topic: topic.to_owned(), partition })
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adopts what the file holds: all of it at the start, new topics, and what a commit of
    /// unknown outcome turned out to have done.
    pub(super) async fn reconcile(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let mut missing: HashMap<String, (TopicId, Vec<Arc<Part>>)> = HashMap::new();
        let mut used = 0;
        for stored in schema::partitions(connection).await? {
            used += stored.extent.bytes_total.saturating_sub(stored.extent.bytes_dropped);
            match self.part(&stored.topic, stored.number) {
                Ok(part) => part.adopt(stored.extent),
                Err(_) => missing
                    .entry(stored.topic.clone())
                    .or_insert_with(|| (stored.topic_id, Vec::new()))
                    .1
                    .push(Arc::new(Part::new(stored))),
            }
        }
        self.used.store(used, Ordering::Relaxed);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for (name, (id, partitions)) in missing {
            let positions = Mutex::new(Positions::new(partitions.len()));
            let moved = AtomicBool::new(false);
            topics.insert(name, Arc::new(Topic { id, partitions, positions, moved }));
        }
        Ok(())
    }
}

impl Part {
    fn new(stored: StoredPartition) -> Self {
        let StoredPartition { id, topic, number, extent, .. } = stored;
        let state = PartState { extent, tail: Batches::empty_at(extent.end) };
        Self { id, topic, number, end: watch::Sender::new(extent.end), state: Mutex::new(state) }
    }

    pub(super) fn extent(&self) -> Extent {
        lock(&self.state).extent
    }

    pub(super) fn bounds(&self) -> Bounds {
        let Extent { first, end, .. } = self.extent();
        Bounds { first, end }
    }

    /// Where the records from `from` on are.
    pub(super) fn source(&self, from: Offset, bytes_max: usize) -> Result<Source, BrokerError> {
        let state = lock(&self.state);
        let Extent { first, end, .. } = state.extent;
        if from < first || from > end {
            let bounds = Bounds { first, end };
            return Err(BrokerError::OutOfRange { offset: from, bounds });
        }
        if from >= state.tail.first() {
            Ok(Source::Tail(state.tail.select(from, bytes_max)))
        } else {
            Ok(Source::File(end))
        }
    }

    /// Shows a batch that is on the disk now to the readers, and wakes those who wait.
    pub(super) fn publish(&self, batch: Batch, tail_bytes_max: u64) {
        let end = batch.end();
        {
            let mut state = lock(&self.state);
            state.extent.end = end;
            state.extent.bytes_total += batch.size;
            state.tail.push(batch);
            while state.tail.size() > tail_bytes_max {
                state.tail.pop();
            }
        }
        self.end.send_replace(end);
    }

    /// Forgets what was dropped from the file.
    pub(super) fn dropped(&self, first: Offset, bytes: u64) {
        let mut state = lock(&self.state);
        state.extent.first = first;
        state.extent.bytes_dropped += bytes;
        while state.tail.front().is_some_and(|batch| batch.base < first) {
            state.tail.pop();
        }
    }

    fn adopt(&self, extent: Extent) {
        {
            let mut state = lock(&self.state);
            if state.extent == extent {
                return;
            }
            *state = PartState { extent, tail: Batches::empty_at(extent.end) };
        }
        self.end.send_replace(extent.end);
    }
}
