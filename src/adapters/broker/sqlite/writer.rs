//! The task that writes: group commit, topics, and when to sweep.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection, QueryBuilder, Sqlite};
use tokio::sync::{mpsc, oneshot};

use super::error::{code, explain, primary};
use super::partition::{Part, Shared};
use super::read::checksum;
use super::schema::{self, to_sql};
use super::sweep::Heads;
use crate::adapters::broker::batch::Batch;
use crate::model::Offset;
use crate::pipeline::broker::{BrokerError, Topic};

/// Appends that share one statement: SQLite takes 32,766 parameters, and a row has eight.
const GROUP_LEN_MAX: usize = 1_000;

type Reply<T> = oneshot::Sender<Result<T, BrokerError>>;

/// What the writer is asked to do.
pub(super) enum Request {
    Append(Append),
    Create {
        topic: String,
        partitions: u32,
        reply: Reply<Topic>,
    },
    Sweep(Reply<()>),
    /// Save the groups' positions.
    Save,
    /// Run a statement on the writing connection.
    #[cfg(test)]
    Execute(&'static str, Reply<()>),
}

/// One part in so many of the log is kept from any topic that would fill it alone.
const RESERVED_PART: u64 = 8;

/// A batch to append.
pub(super) struct Append {
    pub(super) part: Arc<Part>,
    pub(super) count: u64,
    pub(super) size: u64,
    pub(super) body: Bytes,
    pub(super) reply: Reply<Offset>,
}

/// A batch with its place.
struct Row {
    part: Arc<Part>,
    batch: Batch,
    bytes_before: u64,
    reply: Reply<Offset>,
}

/// The one owner of the connection that writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    /// `None` after a failure whose effect is unknown.
    connection: Option<SqliteConnection>,
    pub(super) heads: Heads,
    readers: SqlitePool,
    /// Keeps other processes off for as long as the writer lives.
    _file_lock: File,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Request>,
        connection: SqliteConnection,
        readers: SqlitePool,
        file_lock: File,
    ) -> Self {
        let heads = Heads::default();
        let connection = Some(connection);
        Self { shared, requests, connection, heads, readers, _file_lock: file_lock }
    }

    /// Serves requests until the log is closed or dropped, and those that wait by then.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _done = shared.done.clone().drop_guard();
        let mut due = self.sweep_timer();
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => Some(request),
                None => tokio::select! {
                    request = self.requests.recv() => request,
                    () = shared.closed.cancelled(), if !self.requests.is_closed() => {
                        // What is queued is still received; nothing more gets in.
                        self.requests.close();
                        continue;
                    }
                    () = &mut due => {
                        // Failures come up again with the next append, whose caller is told.
                        let more = self.sweep(0).await.unwrap_or(false);
                        due = if more { Box::pin(std::future::ready(())) } else { self.sweep_timer() };
                        continue;
                    }
                },
            };
            match request {
                Some(Request::Append(append)) => next = self.append_group(append).await,
                Some(request) => self.other(request).await,
                None => break,
            }
        }
        self.finish().await;
    }

    fn sweep_timer(&self) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.shared.clock);
        let interval = Duration::from_secs(self.shared.options.sweep_interval_s);
        Box::pin(async move { clock.sleep(interval).await })
    }

    /// The connection; a new one after a failure, once memory agrees with the file again.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let Shared { path, options, .. } = &*self.shared;
                let mut connection = schema::connect_writer(path, options).await?;
                self.shared.reconcile(&mut connection).await?;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Gives up what failed, so that the next request begins anew.
    pub(super) fn failed(&mut self, error: &sqlx::Error) -> BrokerError {
        self.heads.clear();
        // A full disk undoes the statement, and the connection can go on. After anything else
        // the commit may have happened or not, and what is open on the connection is unknown.
        if primary(error) != Some(code::FULL) {
            self.connection = None;
        }
        explain(&self.shared.path, error)
    }

    /// Appends `first` and those that wait behind it, within the bounds of a group. Returns the
    /// request that ended the group, if one did.
    async fn append_group(&mut self, first: Append) -> Option<Request> {
        let options = &self.shared.options;
        let (mut records, mut bytes) = (first.count, first.size);
        let mut group = vec![first];
        let mut next = None;
        while group.len() < GROUP_LEN_MAX
            && records < options.group_commit_records_max
            && bytes < options.group_commit_bytes_max
        {
            match self.requests.try_recv() {
                Ok(Request::Append(append)) => {
                    records += append.count;
                    bytes += append.size;
                    group.push(append);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        // Whoever has gone away does not need it any more.
        group.retain(|append| !append.reply.is_closed());
        match self.make_room(group).await {
            Ok(group) if group.is_empty() => {}
            Ok(group) => self.write(group).await,
            Err((group, error)) => refuse(group, &error),
        }
        next
    }

    /// Drops what may be dropped if the group does not fit, and refuses the appends that do not
    /// fit all the same.
    async fn make_room(
        &mut self,
        group: Vec<Append>,
    ) -> Result<Vec<Append>, (Vec<Append>, BrokerError)> {
        let limit = self.shared.options.retention_bytes;
        // What one topic alone may not take: whoever reads it may have to append to another
        // before it can go on, and would never free anything if that were refused.
        let several = self.shared.topics().len() > 1;
        let reserve = if several { limit / RESERVED_PART } else { 0 };
        let total: u64 = group.iter().map(|append| append.size).sum();
        let room = total + reserve;
        while self.shared.used.load(Ordering::Relaxed) + room > limit {
            match self.sweep(room).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err((group, error)),
            }
        }
        let mut used = self.shared.used.load(Ordering::Relaxed);
        let mut of_topic: HashMap<String, u64> = HashMap::new();
        let mut fitting = Vec::with_capacity(group.len());
        for append in group {
            let topic = &append.part.topic;
            let mine = match of_topic.get(topic) {
                Some(mine) => *mine,
                None => self.shared.topic(topic).map_or(0, |topic| topic.bytes()),
            };
            if used + append.size > limit || mine + append.size > limit - reserve {
                let _ = append.reply.send(Err(BrokerError::Full { used, limit }));
            } else {
                used += append.size;
                of_topic.insert(topic.clone(), mine + append.size);
                fitting.push(append);
            }
        }
        Ok(fitting)
    }

    /// Writes the group, shows it to the readers and answers its callers.
    async fn write(&mut self, group: Vec<Append>) {
        // Before offsets are given out: after a failure, memory first has to catch up.
        if let Err(error) = self.connection().await {
            let error = self.failed(&error);
            return refuse(group, &error);
        }
        let rows = place(group);
        let written = match self.insert(&rows).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        };
        let tail_bytes_max = self.shared.options.tail_bytes_per_partition;
        for Row { part, batch, reply, .. } in rows {
            let answer = written.clone().map(|()| batch.base);
            if answer.is_ok() {
                self.shared.used.fetch_add(batch.size, Ordering::Relaxed);
                part.publish(batch, tail_bytes_max);
            }
            let _ = reply.send(answer);
        }
    }

    /// One statement, which is a transaction of its own: fewer trips to SQLite's thread.
    async fn insert(&mut self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let now = self.shared.clock.now().millis();
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO batch \
             (partition, base, records, bytes, bytes_before, appended_ms, crc, body) ",
        );
        insert.push_values(rows, |mut values, Row { part, batch, bytes_before, .. }| {
            values
                .push_bind(part.id)
                .push_bind(to_sql(batch.base.0))
                .push_bind(to_sql(batch.count))
                .push_bind(to_sql(batch.size))
                .push_bind(to_sql(*bytes_before))
                .push_bind(now)
                .push_bind(checksum(part, batch.base, batch.count, &batch.body))
                .push_bind(batch.body.to_vec());
        });
        insert.build().execute(self.connection().await?).await?;
        Ok(())
    }

    async fn other(&mut self, request: Request) {
        match request {
            Request::Append(append) => refuse(vec![append], &BrokerError::Closed),
            Request::Create { topic, partitions, reply } => {
                let created = self.create(&topic, partitions).await;
                let _ = reply.send(created.map_err(|error| self.failed(&error)));
            }
            Request::Sweep(reply) => {
                let swept = loop {
                    match self.sweep(0).await {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                };
                let _ = reply.send(swept);
            }
            // A failure leaves it to the next sweep.
            Request::Save => drop(self.save_positions().await),
            #[cfg(test)]
            Request::Execute(statement, reply) => {
                let done = match self.connection().await {
                    Ok(connection) => sqlx::raw_sql(statement).execute(connection).await,
                    Err(error) => Err(error),
                };
                let _ = reply.send(match done {
                    Ok(_) => Ok(()),
                    Err(error) => Err(self.failed(&error)),
                });
            }
        }
    }

    async fn create(&mut self, topic: &str, partitions: u32) -> Result<Topic, sqlx::Error> {
        let shared = Arc::clone(&self.shared);
        let connection = self.connection().await?;
        if shared.topic(topic).is_none() {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT INTO topic (name, id) VALUES (?, randomblob(16))")
                .bind(topic)
                .execute(&mut *transaction)
                .await?;
            let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO partition (topic, number) ");
            insert.push_values(0..partitions, |mut row, number| {
                row.push_bind(topic).push_bind(number);
            });
            insert.build().execute(&mut *transaction).await?;
            transaction.commit().await?;
            shared.reconcile(connection).await?;
        }
        shared.topic(topic).map(|topic| topic.found()).ok_or(sqlx::Error::RowNotFound)
    }

    async fn finish(mut self) {
        // Both may fail without harm: positions may be lost, and the -wal file is read at the
        // next start if it is not folded in now.
        let _ = self.save_positions().await;
        self.readers.close().await;
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }
}

/// Gives the group's batches the next offsets of their partitions.
fn place(group: Vec<Append>) -> Vec<Row> {
    let mut ends: HashMap<i64, (Offset, u64)> = HashMap::new();
    let mut rows = Vec::with_capacity(group.len());
    for Append { part, count, size, body, reply } in group {
        let (end, bytes_total) = ends.entry(part.id).or_insert_with(|| {
            let extent = part.extent();
            (extent.end, extent.bytes_total)
        });
        let batch = Batch { base: *end, count, size, body };
        let bytes_before = *bytes_total;
        *end = batch.end();
        *bytes_total += size;
        rows.push(Row { part, batch, bytes_before, reply });
    }
    rows
}

fn refuse(group: Vec<Append>, error: &BrokerError) {
    for append in group {
        let _ = append.reply.send(Err(error.clone()));
    }
}
