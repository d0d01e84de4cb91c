//! The group as Kafka's own tool shows it: what the store has committed, and the true lag.

use std::collections::BTreeMap;

use tripline::adapters::clock::SystemClock;
use tripline::model::Partition;
use tripline::pipeline::broker::Record;
use tripline::pipeline::clock::Clock as _;
use tripline::pipeline::record::TICKS_TOPIC;

use crate::faults::dev_services;
use crate::fleet::Fleet;

/// Records that nobody reads any more.
const UNREAD: u64 = 2;

/// Checks it, once every process has stopped.
pub(crate) async fn kafka_shows_the_positions(fleet: &Fleet) {
    let Some((broker, run, kafka)) = fleet.broker() else { return };
    let record = Record {
        key: None,
        value: "x".into(),
        headers: Default::default(),
        time: SystemClock.now(),
    };
    let unread = vec![record; usize::try_from(UNREAD).unwrap()];
    broker.append(TICKS_TOPIC, Partition(0), unread).await.unwrap();

    let positions = "SELECT topic, CAST(`partition` AS SIGNED), position FROM partitions";
    let rows = fleet.database().await.rows(positions).await;
    let expected: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            let (topic, partition, position) = (row[0].text(), row[1].number(), row[2].number());
            let lag = if (topic, partition) == (TICKS_TOPIC, 0) { UNREAD } else { 0 };
            ((format!("{run}-{topic}"), partition), (position.cast_unsigned(), lag))
        })
        .collect();
    let tool = ["kafka-tool", "consumer-groups", "--bootstrap-server", kafka];
    let shown = dev_services(&[&tool[..], &["--describe", "--group", run]].concat()).await;
    assert_eq!(of_tool(&shown), expected, "{shown}");
}

/// By topic and partition: CURRENT-OFFSET and LAG.
fn of_tool(shown: &str) -> BTreeMap<(String, i64), (u64, u64)> {
    let mut rows = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let head = rows.find(|row| row.first() == Some(&"GROUP")).expect("a heading");
    let at = |name: &str| head.iter().position(|column| *column == name).unwrap();
    let columns = ["TOPIC", "PARTITION", "CURRENT-OFFSET", "LAG"].map(at);
    rows.filter(|row| row.len() == head.len())
        .map(|row| {
            let [topic, partition, current, lag] = columns.map(|column| row[column]);
            let lag = lag.parse().unwrap();
            ((topic.to_owned(), partition.parse().unwrap()), (current.parse().unwrap(), lag))
        })
        .collect()
}
