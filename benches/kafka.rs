//! Producing to a real cluster of three brokers, side by side with librdkafka: how long one record
//! takes until all in-sync copies have it, and how many 100-byte ticks a second can be sustained.
//!
//! Turn and turn about in one run, so that what else the machine does meets both alike.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "kafka/librdkafka.rs"]
mod librdkafka;
mod production;
mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use librdkafka::Librdkafka;
use production::Kafka;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use support::{figure, percentile, spread};
use tokio::runtime::Runtime;
use tripline::adapters::clock::SystemClock;
use tripline::model::Partition;
use tripline::pipeline::broker::{Broker, Record};
use tripline::pipeline::clock::Clock;

const LATENCY_ROUNDS: usize = 12;
const LATENCY_RECORDS: usize = 250;
const PRODUCE_ROUNDS: usize = 8;
const PRODUCE_RECORDS: usize = 600_000;
const PARTITIONS: u32 = 6;
/// Callers to each partition, and records that each appends at once, as a collector does with what
/// its source gave it.
const CALLERS: usize = 3;
const APPENDED: usize = 1_000;
const VALUE_BYTES: usize = 100;

/// Ticks whose values are half random and half alike, as protobuf records are.
fn records(count: usize) -> Vec<Record> {
    let mut rng = SmallRng::seed_from_u64(1);
    let time = SystemClock.now();
    let record = |number: usize| {
        let mut value = vec![b'.'; VALUE_BYTES];
        rng.fill(&mut value[..VALUE_BYTES / 2]);
        Record {
            key: Some(Bytes::from(format!("S{}", number % 10_000))),
            value: value.into(),
            headers: Default::default(),
            time,
        }
    };
    (0..count).map(record).collect()
}

async fn latency(kafka: &mut Kafka) {
    let topic = kafka.topic("latency", 1).await;
    let (broker, theirs) = (kafka.broker.clone(), Librdkafka::new(&kafka.bootstrap, "0"));
    let records = records(LATENCY_RECORDS);
    let (mut ours_all, mut theirs_all, mut ratios) = (Vec::new(), Vec::new(), [vec![], vec![]]);
    // The first round warms both up.
    for round in 0..=LATENCY_ROUNDS {
        let mut times = [Vec::new(), Vec::new()];
        for (number, record) in records.iter().enumerate() {
            for turn in 0..2 {
                // Each goes first in half of the pairs.
                let who = (turn + number) % 2;
                let start = Instant::now();
                if who == 0 {
                    let record = vec![record.clone()];
                    broker.append(&topic, Partition(0), record).await.unwrap();
                } else {
                    theirs.produce(&topic, 0, record).await;
                }
                times[who].push(start.elapsed());
            }
        }
        if round == 0 {
            continue;
        }
        let [ours, theirs] = &mut times;
        for (ratios, share) in ratios.iter_mut().zip([0.5, 0.99]) {
            let (ours, theirs) = (percentile(ours, share), percentile(theirs, share));
            ratios.push(ours.as_secs_f64() / theirs.as_secs_f64());
        }
        ours_all.append(ours);
        theirs_all.append(theirs);
    }
    for (ratios, (share, name)) in ratios.iter_mut().zip([(0.5, "p50"), (0.99, "p99")]) {
        let ours = percentile(&mut ours_all, share).as_secs_f64();
        let theirs = percentile(&mut theirs_all, share).as_secs_f64();
        figure(&format!("kafka/latency/{name}_ms"), ours * 1e3);
        figure(&format!("kafka/latency/librdkafka_{name}_ms"), theirs * 1e3);
        figure(&format!("kafka/latency/{name}_ratio"), ours / theirs);
        let (_, low, high) = spread(ratios);
        figure(&format!("kafka/latency/{name}_ratio_low"), low);
        figure(&format!("kafka/latency/{name}_ratio_high"), high);
    }
}

/// Appends all records through the port, as several callers do; returns how long it took.
async fn sustain(kafka: &Kafka, topic: &str, records: &[Record]) -> Duration {
    let start = Instant::now();
    let share = records.len() / (PARTITIONS as usize * CALLERS);
    let callers = records.chunks(share).enumerate().map(|(number, records)| {
        let broker = kafka.broker.clone();
        let partition = Partition(u32::try_from(number).unwrap() % PARTITIONS);
        async move {
            for batch in records.chunks(APPENDED) {
                broker.append(topic, partition, batch.to_vec()).await?;
            }
            Ok::<_, tripline::pipeline::broker::BrokerError>(())
        }
    });
    try_join_all(callers).await.unwrap();
    start.elapsed()
}

async fn produce(kafka: &mut Kafka) {
    let topic = kafka.topic("produce", PARTITIONS).await;
    // librdkafka lingers as it does by default: at 0 it sends far smaller batches.
    let theirs = Librdkafka::new(&kafka.bootstrap, "5");
    let records = records(PRODUCE_RECORDS);
    let (mut ours_all, mut theirs_all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=PRODUCE_ROUNDS {
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            let who = (turn + round) % 2;
            let took = match who {
                0 => sustain(kafka, &topic, &records).await,
                _ => theirs.sustain(&topic, PARTITIONS, &records),
            };
            rates[who] = records.len() as f64 / took.as_secs_f64();
        }
        if round > 0 {
            ours_all.push(rates[0]);
            theirs_all.push(rates[1]);
            ratios.push(rates[0] / rates[1]);
        }
    }
    figure("kafka/produce/per_s", spread(&mut ours_all).0);
    figure("kafka/produce/librdkafka_per_s", spread(&mut theirs_all).0);
    let (middle, low, high) = spread(&mut ratios);
    figure("kafka/produce/ratio", middle);
    figure("kafka/produce/ratio_low", low);
    figure("kafka/produce/ratio_high", high);
}

fn main() {
    Runtime::new().unwrap().block_on(async {
        let Some(mut kafka) = Kafka::find() else { return };
        kafka.warm().await;
        latency(&mut kafka).await;
        produce(&mut kafka).await;
        kafka.clean().await;
    });
}
