//! The durable log in a SQLite file of its own: the embedded default.
//!
//! One task writes. It takes all appends that are waiting into one transaction, and answers
//! them when that is on the disk; readers who keep up are served from memory.

mod error;
mod options;
mod partition;
mod read;
mod schema;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::SqlitePool;
use tokio::sync::{mpsc, oneshot};

pub use options::SqliteLogOptions;
use partition::Shared;
use writer::{Append, Request, Writer};

use super::{check_partitions, check_size, codec, lock};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, Broker, BrokerError, Placed, Record, Topic};
use crate::pipeline::clock::Clock;

/// A log in a file.
///
/// It is full when the records that some group has yet to pass reach `retention_bytes` in all
/// topics together. A topic without any group is dropped from freely.
pub struct SqliteLog {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    readers: SqlitePool,
}

impl SqliteLog {
    /// Opens the log at `path`, and creates it if it is missing. Ages are measured with `clock`.
    ///
    /// # Errors
    /// `Permanent` for options that cannot work and for a file that is damaged, read-only or of
    /// a newer version; `Transient` if another process has it open.
    pub async fn open(
        path: &Path,
        options: SqliteLogOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        options.check()?;
        let patience = Duration::from_millis(options.busy_timeout_ms);
        let claimed = path.to_owned();
        let claim = tokio::task::spawn_blocking(move || schema::claim(&claimed, patience)).await;
        let file_lock = claim.map_err(|error| BrokerError::Permanent(error.to_string()))??;

        let explain = |error: sqlx::Error| error::explain(path, &error);
        let mut connection = schema::connect_writer(path, &options).await.map_err(explain)?;
        schema::migrate(path, &mut connection).await?;
        let readers = schema::reader_pool(path, &options);
        let (requests, received) = mpsc::channel(options.append_queue_len);
        let shared = Arc::new(Shared::new(path.to_owned(), options, clock));
        shared.reconcile(&mut connection).await.map_err(explain)?;
        for (topic, partition, group, offset) in
            schema::positions(&mut connection).await.map_err(explain)?
        {
            if let Some(topic) = shared.topic(&topic) {
                lock(&topic.positions).set(&group, partition, offset)?;
            }
        }
        let writer =
            Writer::new(Arc::clone(&shared), received, connection, readers.clone(), file_lock);
        tokio::spawn(writer.run());
        Ok(Self { shared, requests, readers })
    }

    /// Finishes the appends in progress, saves the groups' positions and closes the file.
    pub async fn close(&self) {
        self.shared.closed.cancel();
        self.shared.done.cancelled().await;
    }

    /// Bytes of records in all topics, to compare with `retention_bytes`.
    pub fn used_bytes(&self) -> u64 {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Drops what may be dropped and saves the groups' positions now, not at the next interval.
    pub async fn sweep(&self) -> Result<(), BrokerError> {
        self.request(Request::Sweep).await
    }

    /// Hands a request to the writer, once there is room in its queue, and waits for the answer.
    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, BrokerError>>) -> Request,
    ) -> Result<T, BrokerError> {
        self.shared.check_open()?;
        let gone = || match self.shared.check_open() {
            Ok(()) => BrokerError::Permanent(format!(
                "the writer of {} has stopped; restart the process",
                self.shared.path.display()
            )),
            Err(closed) => closed,
        };
        let (reply, answer) = oneshot::channel();
        let reserve = self.shared.closed.run_until_cancelled(self.requests.reserve());
        let place = reserve.await.ok_or(BrokerError::Closed)?.map_err(|_| gone())?;
        place.send(request(reply));
        answer.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Broker for SqliteLog {
    async fn create_topic(&self, topic: &str, partitions: u32) -> Result<Topic, BrokerError> {
        check_partitions(topic, partitions)?;
        let topic = topic.to_owned();
        self.request(|reply| Request::Create { topic, partitions, reply }).await
    }

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.shared.check_open()?;
        let unknown = || BrokerError::UnknownTopic(topic.to_owned());
        Ok(self.shared.topic(topic).ok_or_else(unknown)?.found())
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Offset, BrokerError> {
        self.shared.check_open()?;
        let part = self.shared.part(topic, partition)?;
        if records.is_empty() {
            return Ok(part.bounds().end);
        }
        let size = check_size(&records, self.shared.options.batch_bytes_max)? as u64;
        let count = records.len() as u64;
        // Encoded here and not by the writer, so that callers do it side by side.
        let body = codec::encode(&records);
        drop(records);
        let append = |reply| Request::Append(Append { part, count, size, body, reply });
        self.request(append).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError> {
        self.shared.check_open()?;
        let part = self.shared.part(topic, partition)?;
        read::read(&self.shared, &self.readers, &part, from, bytes_max).await
    }

    async fn wait(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.shared.check_open()?;
        let part = self.shared.part(topic, partition)?;
        let mut end = part.end.subscribe();
        let passed = end.wait_for(|end| *end > offset);
        // `part` holds the sender, so the wait itself cannot fail.
        let waited = self.shared.closed.run_until_cancelled(passed).await;
        waited.map(drop).ok_or(BrokerError::Closed)
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, BrokerError> {
        self.shared.check_open()?;
        Ok(self.shared.part(topic, partition)?.bounds())
    }

    async fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), BrokerError> {
        self.shared.check_open()?;
        let unknown = || BrokerError::Unknown { topic: topic.to_owned(), partition };
        let found = self.shared.topic(topic).ok_or_else(unknown)?;
        let part = found.partitions.get(partition.0 as usize).ok_or_else(unknown)?;
        // A position past the end must not release records that are yet to come.
        let offset = offset.min(part.bounds().end);
        let new = lock(&found.positions).set(group, partition, offset)?;
        found.moved.store(true, Ordering::Release);
        if new {
            // From now on nothing it needs may be lost, not even by a crash before the next
            // sweep. If the queue is full the sweep will do.
            let _ = self.requests.try_send(Request::Save);
        }
        Ok(())
    }
}
