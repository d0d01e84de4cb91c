//! `tripline topics grow`: more partitions, once everything has come to rest.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::super::failure::{Failure, note};
use super::open::{Log, Place, failed};
use crate::adapters::clock::SystemClock;
use crate::adapters::store::mysql::Growth;
use crate::node::{GrowError, GrowOptions, Growing, Grown};

/// Grows both topics to more partitions, with Kafka and MySQL.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ tripline topics grow --partitions 12 --yes
  waiting until all there is was read: servers and collectors must have stopped
  everything was read: stop all other processes
  to-alert-system has 12 partitions
  to-notifier has 12 partitions
  watches: 250 rows
  both topics have 12 partitions: start with topics.partitions = 12

Symbols go to other partitions with it, so nothing may be under way: stop servers and collectors,
start this, and stop the rest when it says so. If it is interrupted, processes refuse to start
until the same command has completed it. Without --yes it only looks whether it could be done.
Exit status: 0 done, 1 something was under way to the end, 2 wrong usage.")]
pub(super) struct Grow {
    /// How many partitions each topic is to have.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    partitions: u32,

    /// Does it.
    #[arg(long)]
    yes: bool,

    /// How long to wait for what must end first, in seconds.
    #[arg(long, value_name = "N", default_value_t = 300)]
    timeout_s: u64,

    /// The database. [default: mysql.url]
    #[arg(long, value_name = "URL")]
    mysql: Option<String>,

    #[command(flatten)]
    place: Place,
}

impl Grow {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { partitions, yes, timeout_s, mysql, place } = self;
        let settings = place.settings(mysql)?;
        if settings.kafka.bootstrap.is_empty() || settings.mysql.url.is_empty() {
            let message = "expected Kafka and MySQL, found no kafka.bootstrap or no mysql.url";
            return Err(Failure::bad_input(message)
                .or_next("the partitions of an embedded log are fixed once its folder exists"));
        }
        let store = Growth::connect(&settings.mysql).await;
        let mut store = store.map_err(|error| Failure::failed(error.to_string()))?;
        let log = Log::open(settings).await?;
        let growing = Growing {
            broker: log.broker(),
            store: &mut store,
            clock: Arc::new(SystemClock),
            say: &mut |text| note(text),
        };
        let patience = Duration::from_secs(timeout_s);
        let grown = growing.run(&GrowOptions { partitions, patience, go: yes }).await;
        log.close().await;
        match grown {
            Ok(Grown::Now) => note(&format!(
                "both topics have {partitions} partitions: start with topics.partitions = \
                 {partitions}"
            )),
            Ok(Grown::Before) => note(&format!("both topics had {partitions} partitions before")),
            Ok(Grown::Possible) => note("it can be done: --yes does it"),
            Err(GrowError::Broker(error)) => return Err(failed(&error)),
            Err(GrowError::Refused(message)) => return Err(Failure::bad_input(message)),
            Err(error) => return Err(Failure::failed(error.to_string())),
        }
        Ok(())
    }
}
