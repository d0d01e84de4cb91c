//! Reading one partition: its end is followed once for all readers that wait there, and what is
//! older is fetched as it is asked for.
//!
//! A fetch blocks its connection for as long as it waits, so both ways have their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::Shared;
use super::failure::Failure;
use super::tail::Run;
use super::wire::FetchLine;
use crate::adapters::broker::lock;
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, BrokerError, Placed};

/// One partition's readers.
pub(super) struct Reader {
    shared: Arc<Shared>,
    topic: String,
    partition: Partition,
    /// The end of the newest record that this process has appended.
    appended: AtomicU64,
    tail: Mutex<Tail>,
    end: watch::Sender<End>,
    older: AsyncMutex<Older>,
}

/// The newest records, while somebody follows them.
#[derive(Default)]
struct Tail {
    following: bool,
    run: Option<Run>,
    waiting: usize,
    waited: Option<Instant>,
    /// Offsets that hold nothing, up to the end: whoever stands there waits for what follows.
    gap: Option<(Offset, Offset)>,
}

/// Where the partition ends, as far as is known.
#[derive(Clone, Copy, Default)]
struct End {
    /// The offset after the last record, once it is known.
    end: Option<Offset>,
    /// How often the log turned out to be shorter than it was known to be.
    resets: u64,
}

/// The way to older records: what was fetched last and is not read yet.
#[derive(Default)]
struct Older {
    line: Option<FetchLine>,
    run: Run,
}

/// What a fetch brought.
enum Fetched {
    Records(Vec<Placed>),
    /// Nothing: the offset is the end, or what follows it holds no record.
    Nothing,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, topic: &str, partition: Partition) -> Arc<Self> {
        Arc::new(Self {
            shared,
            topic: topic.to_owned(),
            partition,
            appended: AtomicU64::new(0),
            tail: Mutex::default(),
            end: watch::Sender::default(),
            older: AsyncMutex::default(),
        })
    }

    /// Notes where this process's own append ended, so that it is read at once.
    pub(super) fn appended(&self, end: Offset) {
        self.appended.fetch_max(end.0, Ordering::Relaxed);
    }

    /// See [`Broker::read`](crate::pipeline::broker::Broker::read).
    pub(super) async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Placed>, BrokerError> {
        if let Some(page) = self.newest(from, bytes_max) {
            return Ok(page);
        }
        let mut older = self.older.lock().await;
        if !older.run.covers(from) || older.run.next() == from {
            older.run = self.fetch_older(&mut older.line, from).await?;
        }
        Ok(older.run.take(from, bytes_max))
    }

    /// A page of the newest records, if they are followed and `from` lies within them.
    fn newest(&self, from: Offset, bytes_max: usize) -> Option<Vec<Placed>> {
        let tail = lock(&self.tail);
        let run = tail.run.as_ref().filter(|run| run.covers(from))?;
        let page = run.page(from, bytes_max);
        // Own appends may be ahead of what was fetched.
        let known = !page.is_empty() || self.appended.load(Ordering::Relaxed) <= from.0;
        known.then_some(page)
    }

    /// Fetches what there is from an offset on, past offsets that hold nothing.
    async fn fetch_older(
        &self,
        line: &mut Option<FetchLine>,
        from: Offset,
    ) -> Result<Run, BrokerError> {
        let mut run = Run::at(from);
        let mut attempt = 0;
        loop {
            let failure = match self.fetch(line, run.next(), 0).await {
                Ok(Fetched::Records(records)) => {
                    run.extend(records, usize::MAX);
                    return Ok(run);
                }
                Ok(Fetched::Nothing) => match self.skip(run.next()).await? {
                    Some(next) => {
                        run.skip_to(next);
                        continue;
                    }
                    None => {
                        if run.next() > from {
                            lock(&self.tail).gap = Some((from, run.next()));
                        }
                        return Ok(run);
                    }
                },
                Err(failure) => failure,
            };
            match failure {
                Failure::Fatal(cause) => return Err(BrokerError::Permanent(cause)),
                Failure::OutOfRange => {
                    let offset = run.next();
                    let bounds = self.bounds().await?;
                    // It may be within them by now: the leader's knowledge moved.
                    if offset < bounds.first || offset > bounds.end {
                        return Err(BrokerError::OutOfRange { offset, bounds });
                    }
                }
                Failure::NotSent(_)
                | Failure::Refused(_)
                | Failure::Unknown(_)
                | Failure::TooLarge => {}
            }
            if attempt >= self.shared.options.retries_max {
                return Err(BrokerError::Transient(format!(
                    "reading {}/{}: {failure}",
                    self.topic, self.partition
                )));
            }
            self.shared.back_off(attempt).await;
            attempt += 1;
        }
    }

    /// The offset after what lies at `from` and holds no record; `None` at the end.
    async fn skip(&self, from: Offset) -> Result<Option<Offset>, BrokerError> {
        let bytes_max = self.shared.options.fetch_bytes_max;
        Ok(self.shared.cluster.skip(&self.topic, self.partition, from, bytes_max).await?)
    }

    /// The first offset and the end.
    pub(super) async fn bounds(&self) -> Result<Bounds, BrokerError> {
        let cluster = &self.shared.cluster;
        let mut attempt = 0;
        loop {
            match cluster.bounds(&self.topic, self.partition).await {
                Ok(bounds) => return Ok(bounds),
                Err(error) if error.is_transient() && attempt < self.shared.options.retries_max => {
                    self.shared.back_off(attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Fetches once; the connection is given up when it is of no more use.
    async fn fetch(
        &self,
        line: &mut Option<FetchLine>,
        from: Offset,
        wait_ms: u32,
    ) -> Result<Fetched, Failure> {
        // Taken out while in use, so that a cancelled fetch closes it.
        let mut used = match line.take() {
            Some(used) => used,
            None => self.shared.cluster.fetch_line(&self.topic, self.partition).await?,
        };
        let limit = self.shared.options.request_timeout() + Duration::from_millis(wait_ms.into());
        let fetch = used.fetch(from, self.shared.options.fetch_bytes_max, wait_ms);
        let failure = match tokio::time::timeout(limit, fetch).await {
            Ok(Ok(records)) => {
                *line = Some(used);
                let nothing = records.is_empty();
                return Ok(if nothing { Fetched::Nothing } else { Fetched::Records(records) });
            }
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::Unknown(format!("no answer within {limit:?}")),
        };
        if !failure.ends_connection() {
            *line = Some(used);
        }
        Err(failure)
    }

    /// See [`Broker::wait`](crate::pipeline::broker::Broker::wait).
    pub(super) async fn wait(self: &Arc<Self>, offset: Offset) -> Result<(), BrokerError> {
        let (_waiting, offset) = self.begin_waiting(offset);
        let mut ends = self.end.subscribe();
        let resets = ends.borrow().resets;
        let passed = ends.wait_for(|known| {
            let past = known.end.is_some_and(|end| end > offset);
            past || (known.resets > resets && known.end.is_some_and(|end| end < offset))
        });
        // The sender lives as long as `self`, so the wait itself cannot fail.
        let known = match passed.await {
            Ok(known) => *known,
            Err(_) => return Err(BrokerError::Closed),
        };
        match known.end {
            Some(end) if end < offset => {
                let bounds = self.bounds().await?;
                Err(BrokerError::OutOfRange { offset, bounds })
            }
            _ => Ok(()),
        }
    }

    /// Counts a waiting reader, and has the end followed if it is not.
    fn begin_waiting(self: &Arc<Self>, offset: Offset) -> (Waiting, Offset) {
        let mut tail = lock(&self.tail);
        tail.waiting += 1;
        if !tail.following {
            tail.following = true;
            let (reader, closed) = (self.clone(), self.shared.closed.clone());
            tokio::spawn(async move {
                closed.run_until_cancelled(reader.follow()).await;
            });
        }
        let offset = match tail.gap {
            Some((from, to)) if (from..to).contains(&offset) => to,
            _ => offset,
        };
        drop(tail);
        (Waiting(self.clone()), offset)
    }

    /// Follows the end until nobody has waited there for a while.
    async fn follow(&self) {
        let mut line = None;
        let mut attempt = 0;
        loop {
            let failure = match self.follow_once(&mut line).await {
                Ok(true) => {
                    attempt = 0;
                    continue;
                }
                Ok(false) => return,
                Err(failure) => failure,
            };
            if attempt == 0 {
                tracing::warn!("following {}/{}: {failure}", self.topic, self.partition);
            }
            self.shared.back_off(attempt).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Fetches what follows once. Returns whether to go on.
    async fn follow_once(&self, line: &mut Option<FetchLine>) -> Result<bool, Failure> {
        let next = {
            let mut tail = lock(&self.tail);
            let idle = Duration::from_secs(self.shared.options.idle_s);
            if tail.waiting == 0 && tail.waited.is_none_or(|waited| waited.elapsed() > idle) {
                tail.following = false;
                tail.run = None;
                self.end.send_modify(|known| known.end = None);
                return Ok(false);
            }
            tail.run.as_ref().map(Run::next)
        };
        let Some(next) = next else {
            return self.find_end().await;
        };
        match self.fetch(line, next, self.shared.options.fetch_wait_ms).await {
            Ok(Fetched::Records(records)) => {
                self.advance(records);
                Ok(true)
            }
            Ok(Fetched::Nothing) => {
                let skipped = self.skip(next).await.map_err(|e| Failure::Unknown(e.to_string()))?;
                if let (Some(to), Some(run)) = (skipped, lock(&self.tail).run.as_mut()) {
                    run.skip_to(to);
                }
                Ok(true)
            }
            Err(Failure::OutOfRange) => {
                tracing::warn!("{}/{} has no offset {next} any more", self.topic, self.partition);
                lock(&self.tail).run = None;
                self.end.send_modify(|known| {
                    *known = End { end: None, resets: known.resets + 1 };
                });
                Ok(true)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn find_end(&self) -> Result<bool, Failure> {
        let bounds = self.bounds().await.map_err(|error| Failure::Unknown(error.to_string()))?;
        lock(&self.tail).run = Some(Run::at(bounds.end));
        self.end.send_modify(|known| known.end = Some(bounds.end));
        Ok(true)
    }

    fn advance(&self, records: Vec<Placed>) {
        let mut tail = lock(&self.tail);
        let Some(run) = tail.run.as_mut() else { return };
        run.extend(records, self.shared.options.tail_bytes_per_partition);
        let end = run.next();
        drop(tail);
        self.end.send_modify(|known| known.end = Some(end));
    }
}

/// A reader that waits.
struct Waiting(Arc<Reader>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut tail = lock(&self.0.tail);
        tail.waiting -= 1;
        tail.waited = Some(Instant::now());
    }
}
