//! What an adapter gives to the suite, and how the tests make and read records.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tripline::model::{Offset, Partition, Timestamp};
use tripline::pipeline::broker::{Broker, BrokerError, Placed, Record};

/// The topic of most checks.
pub(crate) const TOPIC: &str = "ticks";
/// The partition of most checks.
pub(crate) const P0: Partition = Partition(0);

/// How much a broker under test holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) retention_bytes: u64,
    pub(crate) batch_bytes_max: usize,
}

impl Limits {
    /// Enough for every check that is not about limits.
    pub(crate) const WIDE: Self = Self { retention_bytes: 16 << 20, batch_bytes_max: 1 << 20 };
}

/// An adapter, in a place of its own: what is there when it is opened again.
pub(crate) trait Fixture: Send + Sync + Sized + 'static {
    type Broker: Broker;
    const NAME: &'static str;
    /// Whether records survive the death of the process.
    const DURABLE: bool;
    /// Whether it holds to the limits, and drops what every group has passed.
    const BOUNDED: bool;
    /// Whether headers may share a name, and keep their order.
    const HEADERS_REPEAT: bool;

    fn new() -> Self;
    async fn open(&self, limits: Limits) -> Arc<Self::Broker>;
    async fn close(&self, broker: &Self::Broker);

    /// Takes away what a check has left in a place that others share.
    async fn end(&self) {}

    /// A broker with one topic of two partitions.
    async fn with_topic(&self, limits: Limits) -> Arc<Self::Broker> {
        let broker = self.open(limits).await;
        assert_eq!(broker.create_topic(TOPIC, 2).await.unwrap().partitions, 2);
        broker
    }
}

/// A record that says `text`.
pub(crate) fn record(text: impl Into<String>) -> Record {
    Record {
        key: Some(Bytes::from_static(b"AAPL")),
        value: Bytes::from(text.into()),
        headers: Default::default(),
        time: Timestamp::from_millis(1_700_000_000_000).unwrap(),
    }
}

/// A record that is counted as `size` bytes.
pub(crate) fn sized(size: usize) -> Record {
    let record = Record { value: Bytes::from(vec![7; size - 20]), ..record("") };
    assert_eq!(record.size(), size);
    record
}

/// The texts of some records.
pub(crate) fn texts(placed: &[Placed]) -> Vec<String> {
    placed.iter().map(|p| String::from_utf8(p.record.value.to_vec()).unwrap()).collect()
}

/// Everything from `from` to the end, in pages of `bytes_max`; offsets are checked on the way.
pub(crate) async fn read_all(
    broker: &impl Broker,
    partition: Partition,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<Placed>, BrokerError> {
    let mut all: Vec<Placed> = Vec::new();
    let mut next = from;
    loop {
        let page = broker.read(TOPIC, partition, next, bytes_max).await?;
        if page.is_empty() {
            assert_eq!(next, broker.bounds(TOPIC, partition).await?.end, "an empty page");
            return Ok(all);
        }
        for placed in page {
            assert_eq!(placed.offset, next, "offsets grow by one");
            next = next.next();
            all.push(placed);
        }
    }
}

/// Fails a test that hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer within 20 s")
}

/// Reports by name what a run left out, where the test harness does not swallow it.
pub(crate) fn not_run(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}");
}
