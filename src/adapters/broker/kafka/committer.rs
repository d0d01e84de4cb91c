//! Committing groups' offsets to Kafka, for its own tools: late, together, and never in the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Shared;
use super::wire::Offsets;
use crate::adapters::broker::lock;
use crate::model::{Offset, Partition};

/// What is yet to be committed; of one partition's offsets the last counts.
#[derive(Default)]
pub(super) struct Committer {
    pending: Mutex<BTreeMap<String, Offsets>>,
    wake: Notify,
}

impl Committer {
    /// Notes an offset.
    pub(super) fn note(&self, group: &str, topic: &str, partition: Partition, offset: Offset) {
        let mut pending = lock(&self.pending);
        let key = (topic.to_owned(), partition.0);
        match pending.get_mut(group) {
            Some(offsets) => drop(offsets.insert(key, offset)),
            None => drop(pending.insert(group.to_owned(), Offsets::from([(key, offset)]))),
        }
        drop(pending);
        self.wake.notify_one();
    }

    /// Commits what is noted, again and again. Says so, once, when that fails for longer than a
    /// request may take: a coordinator that moves, or comes to be with the first offset that the
    /// cluster is ever told, is no trouble.
    pub(super) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let interval = Duration::from_millis(shared.options.commit_interval_ms);
        let (mut failures, mut since, mut said) = (0, Instant::now(), false);
        loop {
            self.wake.notified().await;
            if failures == 0 {
                (since, said) = (Instant::now(), false);
            }
            let warn = !said && since.elapsed() > shared.options.request_timeout();
            if self.flush(&shared, warn).await {
                failures = 0;
            } else {
                said |= warn;
                failures += 1;
                self.wake.notify_one();
                shared.back_off(failures).await;
            }
            shared.clock.sleep(interval).await;
        }
    }

    /// Commits what is noted, and forgets it unless there is a later offset by then. Returns
    /// whether nothing is to be tried again; `warn`: says what is.
    pub(super) async fn flush(&self, shared: &Shared, warn: bool) -> bool {
        let batches = lock(&self.pending).clone();
        let mut all = true;
        for (group, offsets) in batches {
            if let Err(error) = shared.cluster.commit_offsets(&group, &offsets).await {
                if warn || !error.is_transient() {
                    tracing::warn!(
                        "offsets of the group {group} are not committed to Kafka: {error}"
                    );
                }
                // What Kafka refuses for good would be refused again: later offsets try anew.
                if error.is_transient() {
                    all = false;
                    continue;
                }
            }
            if let Some(pending) = lock(&self.pending).get_mut(&group) {
                pending.retain(|key, offset| offsets.get(key) != Some(offset));
            }
        }
        lock(&self.pending).retain(|_, offsets| !offsets.is_empty());
        all
    }
}
