//! The evaluator's source: the records of one partition and the changes of its watches.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::Notify as Wake;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::rules::Input;
use super::{EvaluateOptions, EvaluateStore};
use crate::model::Partition;
use crate::pipeline::clock::Clock;
use crate::pipeline::log_source::LogSource;
use crate::pipeline::stage::{Flow, Source, StageError};

/// Yields changes before records: a change is in effect for every record that is read after it.
pub(super) struct Intake {
    log: LogSource,
    store: Arc<dyn EvaluateStore>,
    clock: Arc<dyn Clock>,
    options: EvaluateOptions,
    partition: Partition,
    changes: Arc<Changes>,
    look_for_changes: bool,
    /// When the first record since the last flush was yielded.
    unflushed_since: Option<Instant>,
    _watcher: DropGuard,
}

/// Between the intake and the task that waits for changes; each holds one wake-up while nobody
/// waits for it.
#[derive(Default)]
struct Changes {
    found: Wake,
    looked: Wake,
}

impl Intake {
    pub(super) fn new(
        log: LogSource,
        store: Arc<dyn EvaluateStore>,
        clock: Arc<dyn Clock>,
        options: EvaluateOptions,
        partition: Partition,
    ) -> Self {
        let changes = Arc::<Changes>::default();
        let stop = CancellationToken::new();
        tokio::spawn(watch_changes(store.clone(), partition, changes.clone(), stop.clone()));
        Self {
            log,
            store,
            clock,
            options,
            partition,
            changes,
            look_for_changes: true,
            unflushed_since: None,
            _watcher: stop.drop_guard(),
        }
    }

    /// How long what was yielded may still go without a commit.
    fn flush_in(&self) -> Option<Duration> {
        // Not the wall clock, which may be stepped back.
        let waited = self.unflushed_since?.elapsed();
        Some(Duration::from_millis(self.options.flush_ms).saturating_sub(waited))
    }

    async fn take_changes(&mut self, batch: &mut Vec<Input>) -> Result<(), StageError> {
        let limit = self.options.changes_max;
        let changes = self.store.changes(self.partition, limit).await?;
        self.changes.looked.notify_one();
        // A full page: there may be more, once these are committed.
        self.look_for_changes = changes.len() >= limit as usize;
        let now = self.clock.now();
        batch.extend(changes.into_iter().map(|change| Input::Change(Box::new(change), now)));
        Ok(())
    }
}

/// Waits for changes without a pause, so that none is missed while records are read; after each
/// find it waits until the intake has looked.
async fn watch_changes(
    store: Arc<dyn EvaluateStore>,
    partition: Partition,
    changes: Arc<Changes>,
    stop: CancellationToken,
) {
    let watch = async {
        loop {
            store.changed(partition).await;
            changes.found.notify_one();
            changes.looked.notified().await;
        }
    };
    stop.run_until_cancelled(watch).await;
}

#[async_trait]
impl Source for Intake {
    type Item = Input;

    async fn next(&mut self, batch: &mut Vec<Input>) -> Result<Flow, StageError> {
        loop {
            // Asked before every read: a change does not wait for the end of a long log.
            if self.changes.found.notified().now_or_never().is_some() {
                self.look_for_changes = true;
            }
            if self.look_for_changes {
                self.take_changes(batch).await?;
            }
            // After a full page of changes, the rest of them comes before any record.
            if !self.look_for_changes && self.log.take(batch, Input::Record).await? > 0 {
                self.unflushed_since.get_or_insert_with(Instant::now);
            }
            let flush_in = self.flush_in();
            if flush_in.is_some_and(|left| left.is_zero()) {
                self.unflushed_since = None;
                batch.push(Input::Flush);
            }
            if !batch.is_empty() {
                return Ok(Flow::More);
            }
            tokio::select! {
                waited = self.log.wait() => waited?,
                () = self.changes.found.notified() => self.look_for_changes = true,
                () = self.clock.sleep(flush_in.unwrap_or_default()), if flush_in.is_some() => {}
            }
        }
    }
}
