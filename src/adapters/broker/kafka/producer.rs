//! Producing to one partition: one request in flight, and what arrives meanwhile forms the next.
//!
//! A batch is sent again before the next one is sent, so that order holds; what an attempt of
//! unknown outcome appended is then there twice, next to each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rskafka::record::Record as KafkaRecord;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::convert::to_kafka;
use super::failure::Failure;
use super::link::Line;
use super::reader::Reader;
use crate::metrics::Topic as TopicLabel;
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{BrokerError, Record};

/// Records that belong together, and who waits for them.
struct Append {
    records: Vec<Record>,
    size: usize,
    done: oneshot::Sender<Result<Offset, BrokerError>>,
}

/// The way to one partition's producer. It ends with the last of these.
#[derive(Clone)]
pub(super) struct Producer {
    queue: mpsc::Sender<Append>,
    timeout: Duration,
}

impl Producer {
    /// Starts producing to a partition; its readers are told the end after each append.
    pub(super) fn start(
        shared: Arc<Shared>,
        topic: &str,
        partition: Partition,
        reader: Arc<Reader>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(shared.options.append_queue_len);
        let timeout = Duration::from_millis(shared.options.delivery_timeout_ms);
        let closed = shared.closed.clone();
        let task = Task { shared, topic: topic.to_owned(), partition, line: None, reader };
        tokio::spawn(task.run(waiting, closed));
        Self { queue, timeout }
    }

    /// Appends records of `size` bytes, all or none.
    pub(super) async fn append(
        &self,
        records: Vec<Record>,
        size: usize,
    ) -> Result<Offset, BrokerError> {
        let (done, answer) = oneshot::channel();
        let append = async {
            if self.queue.send(Append { records, size, done }).await.is_err() {
                return Err(BrokerError::Closed);
            }
            answer.await.unwrap_or(Err(BrokerError::Closed))
        };
        tokio::time::timeout(self.timeout, append).await.unwrap_or_else(|_| {
            Err(BrokerError::Transient(format!(
                "no outcome of an append within {:?}; it may still happen",
                self.timeout
            )))
        })
    }
}

struct Task {
    shared: Arc<Shared>,
    topic: String,
    partition: Partition,
    line: Option<Line>,
    reader: Arc<Reader>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Append>, closed: CancellationToken) {
        let work = async {
            let mut next = None;
            loop {
                let first = match next.take() {
                    Some(first) => first,
                    None => match queue.recv().await {
                        Some(first) => first,
                        None => return,
                    },
                };
                let batch = self.gather(first, &mut queue, &mut next).await;
                self.send(batch).await;
            }
        };
        // What is queued or in flight then is answered by the end of its channel.
        closed.run_until_cancelled(work).await;
    }

    /// Adds to `first` what else is there, and what comes while the batch lingers; what does not
    /// fit is `next`.
    async fn gather(
        &self,
        first: Append,
        queue: &mut mpsc::Receiver<Append>,
        next: &mut Option<Append>,
    ) -> Vec<Append> {
        let limit = self.shared.options.batch_bytes_max;
        let linger = self.shared.options.linger(&self.topic);
        let lingered = self.shared.clock.sleep(linger);
        tokio::pin!(lingered);
        let mut size = first.size;
        let mut batch = vec![first];
        while size < limit {
            let more = match queue.try_recv() {
                Ok(more) => more,
                Err(_) if linger.is_zero() => break,
                Err(_) => tokio::select! {
                    biased;
                    more = queue.recv() => match more {
                        Some(more) => more,
                        None => break,
                    },
                    () = &mut lingered => break,
                },
            };
            if size + more.size > limit {
                *next = Some(more);
                break;
            }
            size += more.size;
            batch.push(more);
        }
        batch
    }

    /// Sends a batch until it has an outcome or nobody waits for it any more.
    async fn send(&mut self, mut batch: Vec<Append>) {
        let (mut refusals, mut attempt) = (0, 0u32);
        loop {
            // Whoever gave up before anything was sent gets nothing appended.
            batch.retain(|append| !append.done.is_closed());
            if batch.is_empty() {
                return;
            }
            let failure = match self.attempt(&batch).await {
                Ok(base) => return self.settle(batch, base),
                Err(failure) => failure,
            };
            let error = match &failure {
                Failure::TooLarge if batch.len() > 1 => {
                    for append in batch {
                        Box::pin(self.send(vec![append])).await;
                    }
                    return;
                }
                Failure::TooLarge => Some(self.too_large(batch[0].size).await),
                Failure::Fatal(cause) => Some(BrokerError::Permanent(cause.clone())),
                Failure::OutOfRange => Some(BrokerError::Permanent(failure.to_string())),
                Failure::NotSent(_) => None,
                Failure::Refused(_) | Failure::Unknown(_) => {
                    refusals += 1;
                    let exhausted = refusals > self.shared.options.retries_max;
                    exhausted.then(|| BrokerError::Transient(failure.to_string()))
                }
            };
            if let Some(error) = error {
                return batch
                    .into_iter()
                    .for_each(|append| drop(append.done.send(Err(error.clone()))));
            }
            tracing::warn!("appending to {}/{} again: {failure}", self.topic, self.partition);
            let label = TopicLabel { topic: self.topic.clone() };
            self.shared.metrics.kafka_produce_retries.get_or_create(&label).inc();
            self.shared.back_off(attempt).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Tells everybody in a batch that begins at `base` where their records are.
    fn settle(&self, batch: Vec<Append>, base: Offset) {
        let count: usize = batch.iter().map(|append| append.records.len()).sum();
        self.reader.appended(Offset(base.0 + count as u64));
        let mut base = base;
        for append in batch {
            let count = append.records.len() as u64;
            // Nobody waits for it any more: it was appended all the same.
            let _ = append.done.send(Ok(base));
            base = Offset(base.0 + count);
        }
    }

    async fn attempt(&mut self, batch: &[Append]) -> Result<Offset, Failure> {
        let line = match self.line.take() {
            Some(line) => line,
            None => self.shared.link.connect(&self.topic, self.partition).await?,
        };
        let records: Vec<KafkaRecord> =
            batch.iter().flat_map(|append| &append.records).map(to_kafka).collect();
        let limit = Duration::from_millis(self.shared.options.produce_timeout_ms);
        let started = Instant::now();
        let produce = line.client.produce(records, self.shared.options.compression.codec());
        let failure = match tokio::time::timeout(limit, produce).await {
            Ok(Ok(offsets)) => {
                self.line = Some(line);
                let label = TopicLabel { topic: self.topic.clone() };
                let seconds = started.elapsed().as_secs_f64();
                self.shared.metrics.kafka_produce_seconds.get_or_create(&label).observe(seconds);
                let base = offsets.first().and_then(|base| u64::try_from(*base).ok());
                return base
                    .map(Offset)
                    .ok_or_else(|| Failure::Unknown("the broker named no offset".to_owned()));
            }
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::Unknown(format!("no answer within {limit:?}")),
        };
        if failure.ends_connection() {
            self.shared.link.lost(line).await;
        } else {
            self.line = Some(line);
        }
        Err(failure)
    }

    /// The refusal of a batch that the broker does not take, with the limit that it states.
    async fn too_large(&self, size: usize) -> BrokerError {
        let configs = self.shared.cluster.topic_configs(&self.topic).await.unwrap_or_default();
        let limit = configs.get("max.message.bytes").and_then(|limit| limit.parse().ok());
        BrokerError::TooLarge { size, limit: limit.unwrap_or_else(|| size.saturating_sub(1)) }
    }
}
