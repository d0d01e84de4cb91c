//! `tripline topics produce`: lines of JSON onto a topic.

use std::io::{self, BufRead};

use clap::Args;

use super::super::failure::{Failure, note};
use super::lines::{Topic, parse};
use super::open::{Log, Place, failed};
use crate::adapters::clock::SystemClock;
use crate::model::Partition;
use crate::pipeline::broker::{Record, partition_of};
use crate::pipeline::clock::Clock;

/// Records in one append to a partition, at most.
const BATCH_MAX: usize = 1_000;
/// The longest line, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Appends lines of JSON from standard input to a topic, each to the partition of its symbol.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ echo '{\"symbol\":\"AAPL\",\"time\":\"2000-03-01T14:30:00Z\",\"price\":\"118.56\"}' |
      tripline topics produce ticks
  appended 1

A line has the fields that `tripline topics tail` shows; partition, offset, recorded and trace_id
may be left out, and are read over. The first bad line ends it, and names its number; the lines
before it are appended. These records pass no door: what the feed refuses, a tick far in the
future, is taken. Exit status: 0 all appended, 1 failed, 2 a line was bad.")]
pub(super) struct Produce {
    /// The topic: ticks or to-alert-system, alerts or to-notifier.
    topic: Topic,

    #[command(flatten)]
    place: Place,
}

impl Produce {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { topic, place } = self;
        let log = place.open().await?;
        let mut appended = 0;
        let result = append_all(&log, topic, &mut appended).await;
        log.close().await;
        note(&format!("appended {appended}"));
        result
    }
}

async fn append_all(log: &Log, topic: Topic, appended: &mut u64) -> Result<(), Failure> {
    let partitions = u32::try_from(log.bounds(topic).await?.len()).unwrap_or(u32::MAX);
    if partitions == 0 {
        let message = format!("expected the topic {}, found none", topic.name());
        return Err(Failure::failed(message).or_next("the admin node makes it when it starts"));
    }
    let mut batch = Batch { log, topic, partitions: vec![Vec::new(); partitions as usize] };
    let mut input = io::stdin().lock();
    let mut number = 0u64;
    let bad = loop {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut input, LINE_BYTES_MAX as u64 + 1);
        let length = limited.read_until(b'\n', &mut line).map_err(|cause| {
            Failure::failed(format!("standard input: expected to read, found: {cause}"))
        })?;
        if length == 0 {
            break None;
        }
        number += 1;
        let record = match std::str::from_utf8(&line) {
            _ if length > LINE_BYTES_MAX => Err(format!("expected at most {LINE_BYTES_MAX} bytes")),
            Err(_) => Err("expected UTF-8".to_owned()),
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => parse(topic, text.trim(), SystemClock.now()),
        };
        match record {
            Ok(record) => *appended += batch.add(record).await?,
            Err(error) => break Some(format!("line {number}: {error}")),
        }
    };
    *appended += batch.flush().await?;
    bad.map_or(Ok(()), |bad| Err(Failure::bad_input(bad)))
}

/// What is appended together.
struct Batch<'a> {
    log: &'a Log,
    topic: Topic,
    partitions: Vec<Vec<Record>>,
}

impl Batch<'_> {
    /// Adds a record, and returns how many were appended for it.
    async fn add(&mut self, record: Record) -> Result<u64, Failure> {
        let count = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
        let partition = partition_of(record.key.as_deref().unwrap_or_default(), count);
        let records = &mut self.partitions[partition.0 as usize];
        records.push(record);
        if records.len() < BATCH_MAX { Ok(0) } else { self.append(partition).await }
    }

    async fn flush(&mut self) -> Result<u64, Failure> {
        let mut appended = 0;
        for partition in (0..self.partitions.len()).filter_map(|number| u32::try_from(number).ok())
        {
            appended += self.append(Partition(partition)).await?;
        }
        Ok(appended)
    }

    async fn append(&mut self, partition: Partition) -> Result<u64, Failure> {
        let records = std::mem::take(&mut self.partitions[partition.0 as usize]);
        let count = records.len() as u64;
        if count > 0 {
            let appended = self.log.broker().append(self.topic.name(), partition, records).await;
            appended.map_err(|error| failed(&error))?;
        }
        Ok(count)
    }
}
