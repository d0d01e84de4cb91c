//! What the benches over real services share: the services that the environment names, and
//! topics and a database that nobody else sees. Without the services a bench says so and ends.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::sync::Arc;

use tripline::adapters::broker::kafka::{Compression, KafkaBroker, KafkaOptions};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::pipeline::broker::{Broker, Topic};

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

    /// Deletes what was made.
    pub(crate) async fn clean(&self) {
        for topic in &self.made {
            self.broker.wire().delete_topic(topic).await.unwrap();
        }
    }
}

/// The value of a variable that names a service.
pub(crate) fn named(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|place| !place.is_empty());
    if found.is_none() {
        eprintln!("not run: {variable} names no service (dev/services up; dev/services env)");
    }
    found
}
