//! Port: a partitioned log that carries records from one node to the next.

use std::fmt;
use std::ops::Deref;

use async_trait::async_trait;
use bytes::Bytes;
use smallvec::SmallVec;
use uuid::Uuid;

use super::cluster::ClusterReport;
use crate::model::{Offset, Partition, Timestamp};

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What decides the partition; `None` for a record without one.
    pub key: Option<Bytes>,
    /// The content.
    pub value: Bytes,
    /// Names and values beside the content, in order: the schema, the trace context.
    pub headers: Headers,
    /// When the producer made it.
    pub time: Timestamp,
}

impl Record {
    /// Bytes that this record is counted as, against sizes and bounds.
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers + 16
    }
}

/// Names and values, in order. One, which is what nearly all records bear, takes no memory of its
/// own.
pub type Headers = SmallVec<[(HeaderName, Bytes); 1]>;

/// The name of a header. Those that nodes give take no memory of their own.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderName(Name);

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Schema,
    Traceparent,
    /// None of the others.
    Other(Box<str>),
}

impl HeaderName {
    /// The full name of the protobuf message that a record's value is.
    pub const SCHEMA: Self = Self(Name::Schema);
    /// The W3C trace context of what the record is about.
    pub const TRACEPARENT: Self = Self(Name::Traceparent);
}

impl From<&str> for HeaderName {
    fn from(name: &str) -> Self {
        let known = [Self::SCHEMA, Self::TRACEPARENT].into_iter().find(|known| **known == *name);
        known.unwrap_or_else(|| Self(Name::Other(name.into())))
    }
}

impl Deref for HeaderName {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Name::Schema => "schema",
            Name::Traceparent => "traceparent",
            Name::Other(name) => name,
        }
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A record and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its offset.
    pub offset: Offset,
    /// The record.
    pub record: Record,
}

/// Tells a topic from every other, also from an earlier or later one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic as the broker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// How many partitions it has.
    pub partitions: u32,
    /// Which one it is: made with it, and the same for as long as its records are kept.
    pub id: TopicId,
}

/// The offsets that a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest record that is still there.
    pub first: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
}

/// Why a broker did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// It may work later; an append may have happened all the same.
    #[error("the broker is not available: {0}")]
    Transient(String),
    /// The log holds as many unread records as it may; nothing was appended.
    #[error(
        "the log is full: {used} of {limit} bytes hold records that are not read yet; appends work again once they are"
    )]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The offset is not within the log's bounds.
    #[error("offset {offset} lies outside the log, which holds {first} to {end}", first = bounds.first, end = bounds.end)]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// What there is.
        bounds: Bounds,
    },
    /// No such topic.
    #[error("the broker has no topic {0}")]
    UnknownTopic(String),
    /// No such topic or partition.
    #[error("the broker has no partition {partition} of the topic {topic}")]
    Unknown {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
    },
    /// A batch or record that is larger than the log takes; nothing was appended.
    #[error("a batch of {size} bytes is larger than the {limit} that the log takes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The broker was closed.
    #[error("the broker is closed")]
    Closed,
    /// It will not work later either.
    #[error("the broker failed: {0}")]
    Permanent(String),
}

impl BrokerError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_) | Self::Full { .. })
    }
}

/// A partitioned, append-only log.
///
/// ```text
///   first                      end
///     v                         v
///   | 5 | 6 | 7 | 8 | 9 | 10 | 11   <- the next record's offset
/// ```
///
/// *Ordering:* within a partition offsets grow by one from record to record and every reader
/// sees the same records under the same offsets, in order. Appends of one caller to one
/// partition that are awaited in turn keep their order; none is promised between callers.
///
/// *Durability:* when `append` returns `Ok`, a durable adapter's records survive the death of
/// the process at that instant. When it returns `Transient`, or is cancelled, they may have been
/// appended, once or (Kafka) more often: consumers must tolerate a repeated record.
///
/// *After close:* every call returns [`BrokerError::Closed`].
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Creates `topic` with `partitions` partitions if it is missing, and returns it as it is,
    /// perhaps with another number of partitions.
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<Topic, BrokerError>;

    /// The topic as it is, or `UnknownTopic`.
    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError>;

    /// Appends `records` to a partition, all or none, next to each other, and returns the
    /// offset of the first. Waits while earlier appends are in progress (back-pressure). An
    /// empty batch is a no-op that returns the end.
    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Offset, BrokerError>;

    /// Reads records from `from` on, at least one if there is one and about `bytes_max` bytes
    /// at the most. Returns at once, with nothing when `from` is the end. `OutOfRange` when
    /// `from` is before the first offset or past the end. Cancel-safe.
    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError>;

    /// Waits until the partition's end is past `offset`, and returns at once if it is.
    /// Every waiting reader is woken by an append. Cancel-safe.
    async fn wait(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError>;

    /// The first and the end offset.
    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, BrokerError>;

    /// Tells the log that `group` needs nothing before `offset` any more. The store holds the
    /// true position; this one serves retention and the broker's own tools, and may be lost.
    /// Records that some known group has not passed are never dropped.
    async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError>;

    /// The cluster that keeps the log, where it is more than this process.
    fn cluster(&self) -> Option<&dyn ClusterReport> {
        None
    }
}

/// The partition that Kafka's default partitioner gives a key: murmur2 of its bytes, made
/// positive, modulo the number of partitions.
pub fn partition_of(key: &[u8], partitions: u32) -> Partition {
    Partition((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

/// MurmurHash2 by Austin Appleby (public domain), with the seed that Kafka's clients use.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafka_puts_them() {
        // The vectors of Kafka's own UtilsTest.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert!(partition_of(b"AAPL", 6).0 < 6);
        assert_eq!(partition_of(b"AAPL", 0), Partition(0));
    }
}
