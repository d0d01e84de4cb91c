//! Random appends, reads, commits, sweeps and restarts of the SQLite log, against a plain vector.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tripline::adapters::broker::sqlite::{SqliteLog, SqliteLogOptions};
use tripline::adapters::clock::SystemClock;
use tripline::model::Offset;
use tripline::pipeline::broker::{Broker, BrokerError, Record};

use crate::support::{P0, TOPIC, read_all, sized};

const LIMIT: u64 = 2_000;

#[derive(Clone, Debug)]
enum Step {
    Append { records: usize, size: usize },
    Read { from: u64, bytes_max: usize },
    Commit { group: usize, offset: u64 },
    Sweep,
    Restart { close: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5usize, 40..150usize).prop_map(|(records, size)| Step::Append { records, size }),
        4 => (0..80u64, 0..600usize).prop_map(|(from, bytes_max)| Step::Read { from, bytes_max }),
        3 => (0..2usize, 0..80u64).prop_map(|(group, offset)| Step::Commit { group, offset }),
        1 => Just(Step::Sweep),
        1 => any::<bool>().prop_map(|close| Step::Restart { close }),
    ]
}

/// What the log must hold: every record that was ever appended, and where the groups stand.
#[derive(Default)]
struct Model {
    records: Vec<Record>,
    groups: [Option<u64>; 2],
}

async fn open(path: &Path) -> SqliteLog {
    let options = SqliteLogOptions {
        retention_bytes: LIMIT,
        batch_bytes_max: 1_000,
        tail_bytes_per_partition: 500,
        ..SqliteLogOptions::default()
    };
    SqliteLog::open(path, options, Arc::new(SystemClock)).await.unwrap()
}

async fn play(steps: Vec<Step>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let mut log = open(&path).await;
    log.create_topic(TOPIC, 1).await.unwrap();
    let mut model = Model::default();
    for step in steps {
        let before = log.bounds(TOPIC, P0).await.unwrap();
        match step {
            Step::Append { records, size } => {
                let batch: Vec<Record> = (0..records)
                    .map(|i| Record { headers: Default::default(), ..sized(size + i) })
                    .collect();
                match log.append(TOPIC, P0, batch.clone()).await {
                    Ok(base) => {
                        assert_eq!(base.0 as usize, model.records.len());
                        model.records.extend(batch);
                    }
                    Err(BrokerError::Full { used, .. }) => {
                        let size: usize = batch.iter().map(Record::size).sum();
                        assert!(used + size as u64 > LIMIT);
                        assert!(model.groups.iter().any(Option::is_some), "nobody to wait for");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Read { from, bytes_max } => {
                let read = log.read(TOPIC, P0, Offset(from), bytes_max).await;
                if from < before.first.0 || from > before.end.0 {
                    let error = BrokerError::OutOfRange { offset: Offset(from), bounds: before };
                    assert_eq!(read, Err(error));
                } else {
                    let read = read.unwrap();
                    assert_eq!(read.is_empty(), from == before.end.0);
                    let size: usize = read.iter().map(|placed| placed.record.size()).sum();
                    assert!(read.len() <= 1 || size <= bytes_max);
                }
            }
            Step::Commit { group, offset } => {
                log.commit(["a", "b"][group], TOPIC, P0, Offset(offset)).await.unwrap();
                model.groups[group] = Some(offset.min(before.end.0));
            }
            Step::Sweep => log.sweep().await.unwrap(),
            Step::Restart { close } => {
                // Positions may be lost without a farewell; groups commit again.
                if close {
                    log.close().await;
                }
                drop(log);
                log = open(&path).await;
            }
        }
        let bounds = log.bounds(TOPIC, P0).await.unwrap();
        assert_eq!(bounds.end.0 as usize, model.records.len());
        if bounds.first != before.first {
            let floor = model.groups.iter().flatten().min();
            assert!(floor.is_none_or(|floor| bounds.first.0 <= *floor), "dropped too much");
        }
        let read = read_all(&log, P0, bounds.first, 300).await.unwrap();
        let kept: Vec<Record> = read.into_iter().map(|placed| placed.record).collect();
        assert_eq!(kept, model.records[bounds.first.0 as usize..]);
        let size: usize = kept.iter().map(Record::size).sum();
        assert_eq!(log.used_bytes(), size as u64);
        assert!(log.used_bytes() <= LIMIT);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_vector_that_forgets_its_beginning(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}
