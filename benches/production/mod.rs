//! What the benches over real services share: the services that the environment names, and
//! topics and a database that nobody else sees. Without the services a bench says so and ends.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use tripline::adapters::broker::kafka::{Compression, KafkaBroker, KafkaOptions};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::Partition;
use tripline::pipeline::broker::{Broker, Record, Topic};
use tripline::pipeline::clock::Clock;

/// Who appends at the same time while the brokers are warmed, and for how many seconds at most.
const WARM_CALLERS: usize = 8;
const WARM_ROUNDS_MAX: usize = 90;
/// Rounds without a gain after which they count as warm.
const WARM_WITHOUT_GAIN: usize = 6;

/// A cluster of three brokers, and what the topics' names begin with.
pub(crate) struct Kafka {
    pub(crate) bootstrap: String,
    pub(crate) prefix: String,
    pub(crate) broker: Arc<KafkaBroker>,
    made: Vec<String>,
}

impl Kafka {
    /// The cluster that `dev/services env` names, with the product's options.
    pub(crate) fn find() -> Option<Self> {
        let bootstrap = named("TRIPLINE_TEST_KAFKA")?;
        let options = KafkaOptions {
            bootstrap: bootstrap.split(',').map(str::to_owned).collect(),
            ..KafkaOptions::default()
        };
        assert_eq!(options.compression, Compression::Gzip, "librdkafka is told the same");
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SeededRandom::from_host()));
        let broker = KafkaBroker::new(options, clock, random, Metrics::new("bench")).unwrap();
        let prefix = format!("bench-{}-", uuid::Uuid::new_v4().simple());
        Some(Self { bootstrap, prefix, broker: Arc::new(broker), made: Vec::new() })
    }

    /// Creates a topic as the product does: three copies, of which two must have a record.
    pub(crate) async fn topic(&mut self, name: &str, partitions: u32) -> String {
        let name = format!("{}{name}", self.prefix);
        let Topic { partitions: found, .. } =
            self.broker.create_topic(&name, partitions).await.unwrap();
        assert_eq!(found, partitions);
        self.made.push(name.clone());
        name
    }

    /// Has the brokers work, unmeasured, until they do so no faster: for a while after their start
    /// their compilers are at work on the same cores, and their code is slower before that.
    pub(crate) async fn warm(&mut self) {
        let topic = self.topic("warm", 1).await;
        let mut rounds = Vec::new();
        while rounds.len() < WARM_ROUNDS_MAX && !is_settled(&rounds) {
            rounds.push(self.round(&topic).await);
        }
        eprintln!("warm after {} s, appends a second: {rounds:?}", rounds.len());
    }

    /// A second in which several callers append and read one record at a time; returns how many.
    async fn round(&self, topic: &str) -> usize {
        let end = Instant::now() + Duration::from_secs(1);
        let value = Bytes::from_static(&[7; 100]);
        let callers = (0..WARM_CALLERS).map(async |_| {
            let mut done = 0;
            while Instant::now() < end {
                let time = SystemClock.now();
                let record =
                    Record { key: None, value: value.clone(), headers: Default::default(), time };
                let offset = self.broker.append(topic, Partition(0), vec![record]).await.unwrap();
                self.broker.wait(topic, Partition(0), offset).await.unwrap();
                self.broker.read(topic, Partition(0), offset, 1).await.unwrap();
                done += 1;
            }
            done
        });
        join_all(callers).await.into_iter().sum()
    }

    /// Deletes what was made.
    pub(crate) async fn clean(&self) {
        for topic in &self.made {
            self.broker.wire().delete_topic(topic).await.unwrap();
        }
    }
}

/// Whether none of the last rounds was much better than the best before them.
fn is_settled(rounds: &[usize]) -> bool {
    let best = |rounds: &[usize]| rounds.iter().copied().max().unwrap_or(0);
    let Some(before) = rounds.len().checked_sub(WARM_WITHOUT_GAIN).filter(|before| *before > 0)
    else {
        return false;
    };
    best(&rounds[before..]) * 20 <= best(&rounds[..before]) * 21
}

/// The value of a variable that names a service.
pub(crate) fn named(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|place| !place.is_empty());
    if found.is_none() {
        eprintln!("not run: {variable} names no service (dev/services up; dev/services env)");
    }
    found
}
