//! Growing the topics: a guarded operation, because symbols go to other partitions with it.
//!
//! Producers stop, consumers read all there is, every process stops; then the brokers' topics
//! grow, the store's rows move, and last the store takes the new number. Until that last step a
//! process that starts refuses to go on, and the same growth, asked for again, completes it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;

use crate::adapters::store::mysql::Growth;
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Broker, BrokerError};
use crate::pipeline::clock::Clock;
use crate::pipeline::cluster::ClusterReport;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
use crate::pipeline::store::StoreError;

const TOPICS: [&str; 2] = [TICKS_TOPIC, ALERTS_TOPIC];

/// How often what is waited for is looked at, and how often in a row nobody may be there: a
/// process that is between two connections shows within that.
const LOOK: Duration = Duration::from_millis(500);
const QUIET_LOOKS: u32 = 6;

/// Why the topics were not grown.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// The log cannot say, or did not do it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The store cannot say, or did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not asked for rightly.
    #[error("{0}")]
    Refused(String),
    /// Something that must end first went on.
    #[error("waited {limit_s} s, and still {what}")]
    Busy {
        /// What goes on.
        what: String,
        /// For how long it was waited, in seconds.
        limit_s: u64,
    },
}

/// How to grow.
pub struct GrowOptions {
    /// The new number of partitions of each topic.
    pub partitions: u32,
    /// How long to wait for what must end first.
    pub patience: Duration,
    /// Whether to do it; else it is only looked whether it could be done.
    pub go: bool,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grown {
    /// They have that many partitions now.
    Now,
    /// They had as many before.
    Before,
    /// It can be done, and was not asked for.
    Possible,
}

/// The parts that take part.
pub struct Growing<'a> {
    /// The log, on a cluster.
    pub broker: &'a dyn Broker,
    /// The store.
    pub store: &'a mut Growth,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Says how it goes.
    pub say: &'a mut (dyn FnMut(&str) + Send),
}

impl Growing<'_> {
    /// Grows both topics to `options.partitions` partitions each.
    pub async fn run(mut self, options: &GrowOptions) -> Result<Grown, GrowError> {
        let total = options.partitions;
        let cluster = self.broker.cluster().ok_or_else(|| {
            GrowError::Refused("expected Kafka, found a log that cannot grow".into())
        })?;
        let known = self.store.partitions().await?.ok_or_else(|| {
            GrowError::Refused("the store has no topics yet: start `tripline serve` once".into())
        })?;
        let sizes = sizes(cluster).await?;
        if known == total && sizes.iter().all(|size| *size == total) {
            return Ok(Grown::Before);
        }
        // More than the store knows: an earlier growth ended in the middle.
        let is_known = |size: &u32| *size == known || *size == total;
        if total < known || !sizes.iter().all(is_known) {
            return Err(GrowError::Refused(format!(
                "expected more partitions than the {known} that the store knows, or those to \
                 which a growth began, found {total}; the broker has {sizes:?}"
            )));
        }
        (self.say)("waiting until all there is was read: servers and collectors must have stopped");
        self.wait(options, async |growing| growing.unread().await).await?;
        (self.say)("everything was read: stop all other processes");
        self.wait(options, async |growing| growing.busy().await).await?;
        if !options.go {
            return Ok(Grown::Possible);
        }
        self.store.fence().await?;
        for (topic, size) in TOPICS.into_iter().zip(sizes) {
            if size < total {
                cluster.grow(topic, total).await?;
                (self.say)(&format!("{topic} has {total} partitions"));
            }
        }
        let say = &mut self.say;
        self.store.rewrite(total, |table, rows| say(&format!("{table}: {rows} rows"))).await?;
        self.store.switch(total).await?;
        Ok(Grown::Now)
    }

    /// What has not been read yet, or is not published; `None` when all is.
    async fn unread(&mut self) -> Result<Option<String>, GrowError> {
        for topic in TOPICS {
            let positions = self.store.positions(topic).await?;
            for (partition, end) in self.ends(topic).await? {
                let position = positions.iter().find(|(number, _)| *number == partition);
                let position = position.map_or(Offset(0), |(_, position)| *position);
                if position != end {
                    return Ok(Some(format!(
                        "partition {partition} of {topic} is read up to {position} of {end}"
                    )));
                }
            }
        }
        let alerts = self.store.unpublished().await?;
        Ok((alerts > 0).then(|| format!("{alerts} alerts are not published")))
    }

    /// Where each partition ends; 0 for one that never held anything.
    async fn ends(&self, topic: &str) -> Result<Vec<(Partition, Offset)>, GrowError> {
        let partitions = self.broker.topic(topic).await?.partitions;
        let ends = (0..partitions).map(Partition).map(async |partition| {
            self.broker.bounds(topic, partition).await.map(|bounds| (partition, bounds.end))
        });
        Ok(try_join_all(ends).await?)
    }

    /// Who still uses the store, or what came in meanwhile; `None` when all have stopped.
    async fn busy(&mut self) -> Result<Option<String>, GrowError> {
        let others = self.store.others().await?;
        if let Some(first) = others.first() {
            let count = others.len();
            return Ok(Some(format!("{count} connections to the database, one from {first}")));
        }
        self.unread().await
    }

    /// Waits until `look` has found nothing several times in a row.
    async fn wait(
        &mut self,
        options: &GrowOptions,
        mut look: impl AsyncFnMut(&mut Self) -> Result<Option<String>, GrowError>,
    ) -> Result<(), GrowError> {
        let end = self.clock.now().plus(options.patience);
        let (mut quiet, mut said) = (0, String::new());
        while quiet < QUIET_LOOKS {
            match look(self).await? {
                None => quiet += 1,
                Some(what) => {
                    quiet = 0;
                    if self.clock.now() >= end {
                        return Err(GrowError::Busy { what, limit_s: options.patience.as_secs() });
                    }
                    if what != said {
                        (self.say)(&what);
                        said = what;
                    }
                }
            }
            self.clock.sleep(LOOK).await;
        }
        Ok(())
    }
}

/// How many partitions the broker has of each topic.
async fn sizes(cluster: &dyn ClusterReport) -> Result<Vec<u32>, GrowError> {
    let view = cluster.describe(&TOPICS).await?;
    let size = |topic: &str| {
        let found = view.topics.iter().find(|view| view.name == topic);
        let found = found.map(|view| u32::try_from(view.partitions.len()).unwrap_or(u32::MAX));
        found.ok_or_else(|| GrowError::Refused(format!("expected the topic {topic}, found none")))
    };
    TOPICS.into_iter().map(size).collect()
}
