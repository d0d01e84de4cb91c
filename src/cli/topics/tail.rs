//! `tripline topics tail`: the records of a topic as lines of JSON.

use std::str::FromStr;

use clap::Args;
use futures::future::try_join_all;
use tokio::sync::mpsc;

use super::super::failure::Failure;
use super::super::output::print;
use super::lines::{Line, Topic, line};
use super::open::{Log, Place, failed};
use crate::model::{Offset, Partition};
use crate::pipeline::broker::{Bounds, Broker};

/// Bytes read from a partition at once.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Lines that wait to be printed.
const LINES_MAX: usize = 1_000;

/// Prints the records of a topic as lines of JSON, those of each partition in order.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  $ tripline topics tail alerts
  {\"partition\":0,\"offset\":0,\"recorded\":\"2000-03-01T14:30:00Z\",\"id\":\"7-1-951921000000-above\",\
\"user_id\":1,\"symbol\":\"AAPL\",\"price\":\"118.5\",\"threshold\":\"110\",\
\"accepted\":\"2000-03-01T14:30:00Z\"}
  $ tripline topics tail ticks --from latest --follow --partition 0

A record that does not decode is shown with the reason and its bytes.")]
pub(super) struct Tail {
    /// The topic: ticks or to-alert-system, alerts or to-notifier.
    topic: Topic,

    /// Where to begin: earliest, latest, or an offset of one partition.
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    from: From,

    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<u32>,

    /// Waits for more at the end.
    #[arg(long)]
    follow: bool,

    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    At(Offset),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            offset => offset
                .parse()
                .map(|offset| Self::At(Offset(offset)))
                .map_err(|_| format!("expected earliest, latest or an offset, found {offset:?}")),
        }
    }
}

impl Tail {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { topic, from, partition, follow, place } = self;
        if matches!(from, From::At(_)) && partition.is_none() {
            return Err(Failure::bad_input("--from OFFSET: expected --partition with it"));
        }
        let log = place.open().await?;
        let printed = print_all(&log, topic, from, partition, follow).await;
        log.close().await;
        printed
    }
}

async fn print_all(
    log: &Log,
    topic: Topic,
    from: From,
    only: Option<u32>,
    follow: bool,
) -> Result<(), Failure> {
    let bounds = log.bounds(topic).await?;
    let count = bounds.len();
    let partitions: Vec<(Partition, Bounds)> = (0..)
        .map(Partition)
        .zip(bounds)
        .filter(|(partition, _)| only.is_none_or(|only| partition.0 == only))
        .collect();
    if let (Some(only), true) = (only, partitions.is_empty()) {
        let name = topic.name();
        let message =
            format!("--partition: {name} has {count} partitions, from 0 on, found {only}");
        return Err(Failure::bad_input(message));
    }
    let (sender, mut receiver) = mpsc::channel(LINES_MAX);
    let readers = partitions.into_iter().map(|(partition, bounds)| {
        let reader = Reader { broker: log.broker(), topic, partition, lines: sender.clone() };
        let start = match from {
            From::Earliest => bounds.first,
            From::Latest => bounds.end,
            From::At(offset) => offset,
        };
        reader.read(start, (!follow).then_some(bounds.end))
    });
    let reading = try_join_all(readers.collect::<Vec<_>>());
    drop(sender);
    let printing = async {
        while let Some(line) = receiver.recv().await {
            let line = serde_json::to_string(&line);
            let line = line.map_err(|error| Failure::failed(error.to_string()))?;
            print(&format!("{line}\n"))?;
        }
        Ok(())
    };
    tokio::pin!(reading, printing);
    tokio::select! {
        read = &mut reading => {
            read?;
            printing.await
        }
        // Whoever reads the output has seen enough.
        printed = &mut printing => match printed {
            Ok(()) => reading.await.map(drop),
            Err(failure) => Err(failure),
        },
    }
}

struct Reader<'a> {
    broker: &'a dyn Broker,
    topic: Topic,
    partition: Partition,
    lines: mpsc::Sender<Line>,
}

impl Reader<'_> {
    /// Reads from `at` to `end`, or for ever.
    async fn read(self, mut at: Offset, end: Option<Offset>) -> Result<(), Failure> {
        let Self { broker, topic, partition, lines } = self;
        while end.is_none_or(|end| at < end) {
            let read = broker.read(topic.name(), partition, at, READ_BYTES_MAX).await;
            let records = read.map_err(|error| failed(&error))?;
            if records.is_empty() {
                let waited = broker.wait(topic.name(), partition, at).await;
                waited.map_err(|error| failed(&error))?;
            }
            for placed in records {
                at = placed.offset.next();
                if end.is_none_or(|end| placed.offset < end)
                    && lines.send(line(topic, partition, &placed)).await.is_err()
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
