//! librdkafka, set up as Tripline's producer is: all in-sync copies acknowledge, gzip, no
//! idempotence.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{
    BaseRecord, FutureProducer, FutureRecord, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientContext, util::Timeout};
use tripline::pipeline::broker::Record;

const PATIENCE: Duration = Duration::from_secs(60);

/// Two producers: one whose caller waits for each record, and one whose caller does not.
pub(crate) struct Librdkafka {
    one: FutureProducer,
    many: ThreadedProducer<Count>,
}

/// Counts what was acknowledged.
struct Count(Arc<AtomicUsize>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "librdkafka: {result:?}");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Librdkafka {
    pub(crate) fn new(bootstrap: &str, linger_ms: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("acks", "all")
            .set("compression.type", "gzip")
            .set("linger.ms", linger_ms)
            .set("socket.nagle.disable", "true")
            .set("queue.buffering.max.messages", "500000");
        let many = config.create_with_context(Count(Arc::default())).unwrap();
        Self { one: config.create().unwrap(), many }
    }

    /// Produces a record, and waits until it is acknowledged.
    pub(crate) async fn produce(&self, topic: &str, partition: i32, record: &Record) {
        let (key, value) = (record.key.as_deref().unwrap_or_default(), record.value.as_ref());
        let record = FutureRecord::to(topic)
            .partition(partition)
            .key(key)
            .payload(value)
            .timestamp(record.time.millis());
        self.one.send(record, Timeout::After(PATIENCE)).await.unwrap();
    }

    /// Produces all records, in turns to each partition, and waits until all are acknowledged;
    /// returns how long it took.
    pub(crate) fn sustain(&self, topic: &str, partitions: u32, records: &[Record]) -> Duration {
        let start = Instant::now();
        let before = self.many.context().0.load(Ordering::Relaxed);
        for (number, record) in records.iter().enumerate() {
            let partition = i32::try_from(number).unwrap() % i32::try_from(partitions).unwrap();
            let (key, value) = (record.key.as_deref().unwrap_or_default(), record.value.as_ref());
            let mut next = BaseRecord::to(topic)
                .partition(partition)
                .key(key)
                .payload(value)
                .timestamp(record.time.millis());
            loop {
                match self.many.send(next) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        next = back;
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    Err((error, _)) => panic!("librdkafka: {error}"),
                }
            }
        }
        self.many.flush(PATIENCE).unwrap();
        let acknowledged = self.many.context().0.load(Ordering::Relaxed) - before;
        assert_eq!(acknowledged, records.len());
        start.elapsed()
    }
}
