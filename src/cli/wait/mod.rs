//! `tripline wait`: until other services are there, for init containers and scripts.

mod need;

use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::failure::{Failure, note};
use super::settings::SettingsArgs;
use crate::config::Flag;
use need::Need;

const EXAMPLE: &str = "\
Examples:
  $ tripline wait --mysql mysql://tripline@mysql-container:3306/tripline --tcp redis:6379
  mysql://mysql-container:3306/tripline: expected a server, found: Connection refused
  redis:6379: there
  mysql://mysql-container:3306/tripline: there

  $ tripline wait --kafka b1:9092,b2:9092,b3:9092 --topics --timeout-s 60

What is waited for and how it goes is on standard error. Exit status: 0 all is there, 1 something
was missing to the end, 2 wrong usage.";

/// Between two looks for the same thing.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Waits until other services are there: TCP ports, a Kafka broker, topics, MySQL.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct Wait {
    /// A port that takes connections; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Vec<String>,

    /// Kafka brokers, of which any one must answer. Without a value: kafka.bootstrap.
    #[arg(long, value_name = "HOST:PORT,...", num_args = 0..=1, default_missing_value = "")]
    kafka: Option<String>,

    /// Also wait until both topics are there; with --kafka.
    #[arg(long, requires = "kafka")]
    topics: bool,

    /// A database that takes this user. Without a value: mysql.url, or what mysql.url_file holds.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    mysql: Option<String>,

    /// How long to wait in all, in seconds.
    #[arg(long, value_name = "N", default_value_t = 300)]
    timeout_s: u64,

    #[command(flatten)]
    settings: SettingsArgs,
}

impl Wait {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let limit = Duration::from_secs(self.timeout_s);
        let needs = self.needs()?;
        let end = Instant::now() + limit;
        let missing = join_all(needs.iter().map(|need| wait_for(need, end))).await;
        let missing: Vec<_> = missing.into_iter().flatten().collect();
        match missing.is_empty() {
            true => Ok(()),
            false => {
                let missing = missing.join("; ");
                let message = format!("missing after {} s: {missing}", limit.as_secs());
                Err(Failure::failed(message).or_next("--timeout-s N waits for longer"))
            }
        }
    }

    fn needs(self) -> Result<Vec<Need>, Failure> {
        let mut needs = Vec::new();
        for addr in self.tcp {
            needs.push(Need::tcp(&addr).map_err(Failure::bad_input)?);
        }
        let given =
            [("--kafka", "kafka.bootstrap", &self.kafka), ("--mysql", "mysql.url", &self.mysql)];
        let flags = given.into_iter().filter_map(|(name, key, value)| {
            let value = value.clone().filter(|value| !value.is_empty())?;
            Some(Flag { name: name.to_owned(), key: key.to_owned(), value })
        });
        if self.kafka.is_some() || self.mysql.is_some() {
            let settings = self.settings.load(flags.collect())?.settings;
            if self.kafka.is_some() {
                let topics = self.topics.then_some(settings.topics.prefix.as_str());
                needs.push(Need::kafka(&settings.kafka(), topics).map_err(Failure::bad_input)?);
            }
            if self.mysql.is_some() {
                needs.push(Need::mysql(&settings.mysql).map_err(Failure::bad_input)?);
            }
        }
        if needs.is_empty() {
            let message = "expected something to wait for, found none of --tcp, --kafka, --mysql";
            return Err(Failure::bad_input(message));
        }
        Ok(needs)
    }
}

/// Looks for it until it is there or the time is up. Says how it goes, and returns what is
/// missing.
async fn wait_for(need: &Need, end: Instant) -> Option<String> {
    let mut said = String::new();
    loop {
        let look = LOOK_MAX.min(end.saturating_duration_since(Instant::now()).max(PAUSE));
        let found = timeout(look, need.look()).await;
        let found = found.unwrap_or_else(|_| Err(format!("found no answer within {look:?}")));
        match found {
            Ok(()) => {
                note(&format!("{need}: there"));
                return None;
            }
            Err(cause) if cause != said => {
                note(&format!("{need}: {cause}"));
                said = cause;
            }
            Err(_) => {}
        }
        if Instant::now() + PAUSE > end {
            return Some(format!("{need} ({said})"));
        }
        sleep(PAUSE).await;
    }
}
