//! `tripline topics`: what is on the topics between the nodes, for operators.

mod grow;
mod lines;
mod open;
mod produce;
mod tail;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::output::{Cell, Output, Row};
use crate::model::Partition;
use crate::pipeline::cluster::PartitionView;
use lines::Topic;
use open::{Log, Place};

const EXAMPLE: &str = "\
Examples:
  $ tripline topics list --data-dir /var/lib/tripline
  TOPIC            PARTITIONS  RECORDS
  to-alert-system           1    20000
  to-notifier               1       12

  $ tripline topics tail alerts --from latest --follow
  $ tripline topics tail ticks --partition 3 > ticks.ndjson
  $ tripline topics produce ticks < ticks.ndjson

The log is that of the settings. An embedded one belongs to one process at a time: stop `tripline
serve` first.";

/// Shows, reads and writes the topics between the nodes.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct TopicsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the topics.
    #[command(after_help = "\
Example:
  $ tripline topics list --json
  {\"topic\":\"to-alert-system\",\"partitions\":6,\"records\":20000}")]
    List(Place),
    /// Lists the partitions of the topics: where they begin and end, and who keeps them.
    #[command(after_help = "\
Example:
  $ tripline topics describe --json | jq 'select(.in_sync | length < 3)'")]
    Describe(Place),
    Tail(tail::Tail),
    Produce(produce::Produce),
    Grow(grow::Grow),
}

impl TopicsCommand {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List(place) => list(place).await,
            Action::Describe(place) => describe(place).await,
            Action::Tail(command) => command.run().await,
            Action::Produce(command) => command.run().await,
            Action::Grow(command) => command.run().await,
        }
    }
}

#[derive(Serialize)]
struct TopicRow {
    topic: &'static str,
    partitions: u32,
    records: u64,
}

impl Row for TopicRow {
    const COLUMNS: &'static [&'static str] = &["TOPIC", "PARTITIONS", "RECORDS"];

    fn cells(&self) -> Vec<Cell> {
        let Self { topic, partitions, records } = self;
        let number = |number: u64| Cell::number(&number.to_string());
        vec![Cell::text(topic), number((*partitions).into()), number(*records)]
    }
}

async fn list(place: Place) -> Result<(), Failure> {
    let output = Output::new(place.json);
    let log = place.open().await?;
    let mut rows = Vec::new();
    for topic in Topic::ALL {
        let bounds = log.bounds(topic).await?;
        let partitions = u32::try_from(bounds.len()).unwrap_or(u32::MAX);
        let records = bounds.iter().map(|bounds| bounds.end.0 - bounds.first.0).sum();
        if partitions > 0 {
            rows.push(TopicRow { topic: topic.name(), partitions, records });
        }
    }
    log.close().await;
    output.rows(&rows, "there are no topics yet")
}

#[derive(Serialize)]
struct PartitionRow {
    topic: &'static str,
    partition: u32,
    first: u64,
    end: u64,
    leader: Option<i32>,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
}

impl Row for PartitionRow {
    const COLUMNS: &'static [&'static str] =
        &["TOPIC", "PARTITION", "FIRST", "END", "LEADER", "REPLICAS", "IN SYNC"];

    fn cells(&self) -> Vec<Cell> {
        let number = |number: u64| Cell::number(&number.to_string());
        let ids = |ids: &[i32]| {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            Cell::text(&ids.join(","))
        };
        let leader = self.leader.map(|id| id.to_string()).unwrap_or_default();
        vec![
            Cell::text(self.topic),
            number(self.partition.into()),
            number(self.first),
            number(self.end),
            Cell::number(&leader),
            ids(&self.replicas),
            ids(&self.in_sync),
        ]
    }
}

async fn describe(place: Place) -> Result<(), Failure> {
    let output = Output::new(place.json);
    let log = place.open().await?;
    let mut rows = Vec::new();
    for topic in Topic::ALL {
        let views = views(&log, topic).await?;
        for (number, bounds) in (0..).zip(log.bounds(topic).await?) {
            let view = views.iter().find(|view| view.partition == Partition(number));
            rows.push(PartitionRow {
                topic: topic.name(),
                partition: number,
                first: bounds.first.0,
                end: bounds.end.0,
                leader: view.and_then(|view| view.leader),
                replicas: view.map(|view| view.replicas.clone()).unwrap_or_default(),
                in_sync: view.map(|view| view.in_sync.clone()).unwrap_or_default(),
            });
        }
    }
    log.close().await;
    output.rows(&rows, "there are no topics yet")
}

/// The partitions as the cluster keeps them, if there is one.
async fn views(log: &Log, topic: Topic) -> Result<Vec<PartitionView>, Failure> {
    let Some(cluster) = log.broker().cluster() else { return Ok(Vec::new()) };
    let view = cluster.describe(&[topic.name()]).await;
    let view = view.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(view.topics.into_iter().next().map(|topic| topic.partitions).unwrap_or_default())
}
