//! One check for each sentence of the port's contract.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tripline::model::{Offset, Partition, Timestamp};
use tripline::pipeline::broker::{Bounds, Broker, BrokerError, Record};

use crate::limits::*;
use crate::support::{Fixture, Limits, P0, TOPIC, not_run, read_all, record, sized, soon, texts};

/// Every check, each on a broker of its own.
pub(crate) async fn run<F: Fixture>() {
    macro_rules! checks {
        ($($check:ident $(if $capability:ident $(&& $other:ident)?)?),* $(,)?) => {$(
            if true $(&& F::$capability $(&& F::$other)?)? {
                println!("{}: {}", F::NAME, stringify!($check));
                let fixture = F::new();
                soon($check::<F>(&fixture)).await;
                fixture.end().await;
            } else {
                not_run(&format!("{}: {}: not {}", F::NAME, stringify!($check), concat!($(stringify!($capability) $(, " and ", stringify!($other))?)?)));
            }
        )*};
    }
    checks![
        offsets_grow_by_one_and_every_reader_sees_the_same,
        partitions_are_apart,
        records_come_back_as_they_were,
        what_was_read_can_be_read_again,
        a_read_is_bounded_and_gives_at_least_one_record,
        reading_at_the_end_returns_at_once_with_nothing,
        reading_past_the_end_is_out_of_range,
        waiting_ends_when_the_end_is_past_the_offset,
        every_waiting_reader_is_woken,
        concurrent_batches_stay_whole_and_in_their_callers_order,
        a_cancelled_append_is_whole_or_absent,
        an_empty_batch_returns_the_end,
        what_is_unknown_is_named,
        a_topic_is_created_once,
        a_topic_made_anew_has_another_id,
        a_closed_broker_says_so_and_wakes_its_waiters,
        headers_are_a_list if HEADERS_REPEAT,
        a_large_batch_is_refused,
        a_full_log_refuses_and_goes_on_after_a_commit if BOUNDED,
        no_topic_fills_the_log_alone if BOUNDED,
        retention_passes_no_group if BOUNDED,
        a_group_is_known_in_every_partition if BOUNDED,
        a_commit_past_the_end_frees_nothing_to_come if BOUNDED,
        a_restart_keeps_everything if DURABLE,
        a_restart_keeps_offsets_and_groups if DURABLE && BOUNDED,
    ];
}

async fn offsets_grow_by_one_and_every_reader_sees_the_same<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    let mut expected = Vec::new();
    for (length, base) in [(1, 0), (3, 1), (2, 4), (1, 6)] {
        let batch: Vec<Record> = (0..length).map(|i| record(format!("{}", base + i))).collect();
        expected.extend((base..base + length).map(|i| i.to_string()));
        assert_eq!(broker.append(TOPIC, P0, batch).await, Ok(Offset(base)));
    }
    let bounds = Bounds { first: Offset(0), end: Offset(7) };
    assert_eq!(broker.bounds(TOPIC, P0).await, Ok(bounds));
    for bytes_max in [1, 40, 100, 1 << 20] {
        for from in 0..=7 {
            let read = read_all(&*broker, P0, Offset(from), bytes_max).await.unwrap();
            assert_eq!(texts(&read), expected[from as usize..], "from {from}, {bytes_max} bytes");
        }
    }
}

async fn partitions_are_apart<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    assert_eq!(broker.create_topic("alerts", 1).await.unwrap().partitions, 1);
    for (topic, partition, text) in [(TOPIC, 0, "a"), (TOPIC, 1, "b"), ("alerts", 0, "c")] {
        let partition = Partition(partition);
        let appended = broker.append(topic, partition, vec![record(text)]).await;
        assert_eq!(appended, Ok(Offset(0)));
        let read = broker.read(topic, partition, Offset(0), 1 << 20).await.unwrap();
        assert_eq!(texts(&read), [text]);
    }
}

async fn records_come_back_as_they_were<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    let plain = record("x");
    let header = |name: &str, value: &'static [u8]| (name.into(), Bytes::from_static(value));
    let records = vec![
        plain.clone(),
        Record { key: None, ..plain.clone() },
        Record { key: Some(Bytes::new()), value: Bytes::new(), ..plain.clone() },
        Record { value: Bytes::from_static(&[0, 255, 10]), ..plain.clone() },
        Record {
            headers: vec![header("a", b""), header("b", &[0xff]), header("ü", b"1")].into(),
            time: Timestamp::from_millis(0).unwrap(),
            ..plain
        },
    ];
    broker.append(TOPIC, P0, records.clone()).await.unwrap();
    let read = read_all(&*broker, P0, Offset(0), 1 << 20).await.unwrap();
    assert_eq!(read.into_iter().map(|p| p.record).collect::<Vec<_>>(), records);
}

async fn headers_are_a_list<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    let header = |name: &str, value: &'static [u8]| (name.into(), Bytes::from_static(value));
    let headers = vec![header("b", b"2"), header("a", b""), header("b", &[0xff])].into();
    let records = vec![Record { headers, ..record("x") }];
    broker.append(TOPIC, P0, records.clone()).await.unwrap();
    let read = read_all(&*broker, P0, Offset(0), 1 << 20).await.unwrap();
    assert_eq!(read.into_iter().map(|p| p.record).collect::<Vec<_>>(), records);
}

async fn what_was_read_can_be_read_again<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    for text in ["a", "b", "c"] {
        broker.append(TOPIC, P0, vec![record(text)]).await.unwrap();
    }
    assert_eq!(broker.commit("evaluator", TOPIC, P0, Offset(1)).await, Ok(()));
    for _ in 0..2 {
        let read = read_all(&*broker, P0, Offset(1), 1 << 20).await.unwrap();
        assert_eq!(texts(&read), ["b", "c"]);
    }
}

async fn a_read_is_bounded_and_gives_at_least_one_record<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    broker.append(TOPIC, P0, (0..10).map(|_| sized(100)).collect()).await.unwrap();
    broker.append(TOPIC, P0, (0..10).map(|_| sized(100)).collect()).await.unwrap();
    for from in [0, 3, 10, 12] {
        for (bytes_max, most) in [(0, 1), (1, 1), (100, 1), (199, 1), (250, 2), (800, 8)] {
            let read = broker.read(TOPIC, P0, Offset(from), bytes_max).await.unwrap();
            assert_eq!(read[0].offset, Offset(from));
            assert!(
                (1..=most).contains(&read.len()),
                "{} records of 100 bytes from {from} in {bytes_max} bytes",
                read.len()
            );
        }
    }
}

async fn reading_at_the_end_returns_at_once_with_nothing<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    assert_eq!(broker.read(TOPIC, P0, Offset(0), 100).await, Ok(Vec::new()));
    broker.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    assert_eq!(broker.read(TOPIC, P0, Offset(1), 100).await, Ok(Vec::new()));
}

async fn reading_past_the_end_is_out_of_range<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    broker.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    let bounds = Bounds { first: Offset(0), end: Offset(1) };
    for offset in [Offset(2), Offset(1_000_000)] {
        let read = broker.read(TOPIC, P0, offset, 100).await;
        assert_eq!(read, Err(BrokerError::OutOfRange { offset, bounds }));
    }
}

async fn waiting_ends_when_the_end_is_past_the_offset<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    broker.append(TOPIC, P0, vec![record("a"), record("b")]).await.unwrap();
    assert_eq!(broker.wait(TOPIC, P0, Offset(0)).await, Ok(()));
    assert_eq!(broker.wait(TOPIC, P0, Offset(1)).await, Ok(()));
    let wait = broker.wait(TOPIC, P0, Offset(3));
    tokio::pin!(wait);
    assert!(futures::poll!(&mut wait).is_pending());
    broker.append(TOPIC, P0, vec![record("c")]).await.unwrap();
    assert!(futures::poll!(&mut wait).is_pending(), "the end is 3, not past it");
    broker.append(TOPIC, Partition(1), (0..9).map(|_| record("d")).collect()).await.unwrap();
    assert!(futures::poll!(&mut wait).is_pending(), "another partition");
    broker.append(TOPIC, P0, vec![record("e")]).await.unwrap();
    assert_eq!(wait.await, Ok(()));
}

async fn every_waiting_reader_is_woken<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    let mut waits: Vec<_> = (0..5).map(|_| broker.wait(TOPIC, P0, Offset(0))).collect();
    // Two that have begun to wait, two that exist only, and one that goes away.
    for wait in &mut waits[..3] {
        assert!(futures::poll!(wait).is_pending());
    }
    drop(waits.remove(0));
    broker.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    for wait in waits {
        assert_eq!(wait.await, Ok(()));
    }
}

async fn concurrent_batches_stay_whole_and_in_their_callers_order<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    let callers = (0..8).map(|caller| {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            for round in 0..20 {
                let batch = (0..3).map(|i| record(format!("{caller} {round} {i}"))).collect();
                let base = broker.append(TOPIC, P0, batch).await.unwrap();
                let read = broker.read(TOPIC, P0, base, 1).await.unwrap();
                assert_eq!(texts(&read), [format!("{caller} {round} 0")], "own write");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let all = read_all(&*broker, P0, Offset(0), 500).await.unwrap();
    assert_eq!(all.len(), 8 * 20 * 3);
    let rounds = whole_batches(&texts(&all), 3);
    assert!(rounds.values().all(|rounds| rounds.iter().copied().eq(0..20)), "{rounds:?}");
}

/// Checks that batches of `caller round index` are next to each other; the rounds by caller.
fn whole_batches(texts: &[String], length: usize) -> HashMap<String, Vec<u32>> {
    let mut rounds: HashMap<String, Vec<u32>> = HashMap::new();
    for batch in texts.chunks(length) {
        let (name, _) = batch[0].rsplit_once(' ').unwrap();
        let expected: Vec<String> = (0..length).map(|i| format!("{name} {i}")).collect();
        assert_eq!(batch, expected, "a batch is all or none, next to each other");
        let (caller, round) = name.split_once(' ').unwrap();
        rounds.entry(caller.to_owned()).or_default().push(round.parse().unwrap());
    }
    rounds
}

async fn a_cancelled_append_is_whole_or_absent<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    for round in 0..50 {
        let batch = (0..3).map(|i| record(format!("0 {round} {i}"))).collect();
        let append = broker.append(TOPIC, P0, batch);
        tokio::pin!(append);
        for _ in 0..round % 4 {
            if futures::poll!(&mut append).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let base = broker.append(TOPIC, P0, (0..3).map(|i| record(format!("0 50 {i}"))).collect());
    let base = base.await.unwrap();
    let all = texts(&read_all(&*broker, P0, Offset(0), 1 << 20).await.unwrap());
    assert_eq!(all[base.0 as usize..], ["0 50 0", "0 50 1", "0 50 2"]);
    let rounds = &whole_batches(&all, 3)["0"];
    assert!(rounds.is_sorted() && rounds.windows(2).all(|w| w[0] < w[1]), "{rounds:?}");
}

async fn an_empty_batch_returns_the_end<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    assert_eq!(broker.append(TOPIC, P0, Vec::new()).await, Ok(Offset(0)));
    broker.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    assert_eq!(broker.append(TOPIC, P0, Vec::new()).await, Ok(Offset(1)));
    assert_eq!(broker.bounds(TOPIC, P0).await.unwrap().end, Offset(1));
}

async fn what_is_unknown_is_named<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    for (topic, partition) in [("missing", P0), (TOPIC, Partition(2))] {
        let unknown = BrokerError::Unknown { topic: topic.to_owned(), partition };
        let batch = vec![record("a")];
        assert_eq!(broker.append(topic, partition, batch).await.unwrap_err(), unknown);
        assert_eq!(broker.append(topic, partition, vec![]).await.unwrap_err(), unknown);
        assert_eq!(broker.read(topic, partition, Offset(0), 1).await.unwrap_err(), unknown);
        assert_eq!(broker.wait(topic, partition, Offset(0)).await.unwrap_err(), unknown);
        assert_eq!(broker.bounds(topic, partition).await.unwrap_err(), unknown);
        let commit = broker.commit("evaluator", topic, partition, Offset(0)).await;
        assert_eq!(commit.unwrap_err(), unknown);
    }
}

async fn a_topic_is_created_once<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    broker.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    let topic = broker.topic(TOPIC).await.unwrap();
    assert_eq!(topic.partitions, 2);
    for partitions in [1, 2, 7] {
        assert_eq!(broker.create_topic(TOPIC, partitions).await, Ok(topic));
    }
    assert_eq!(broker.bounds(TOPIC, P0).await.unwrap().end, Offset(1));
    let creators = (1..=4).map(|partitions| broker.create_topic("raced", partitions));
    let topics = futures::future::try_join_all(creators).await.unwrap();
    assert!(topics.iter().all(|topic| *topic == topics[0]), "{topics:?}");
    assert_ne!(topics[0].id, topic.id);
}

/// A log that was lost and made anew has the same names, and perhaps the same offsets.
async fn a_topic_made_anew_has_another_id<F: Fixture>(fixture: &F) {
    let (first, other) = (fixture.with_topic(Limits::WIDE).await, F::new());
    let again = other.with_topic(Limits::WIDE).await;
    assert_ne!(first.topic(TOPIC).await.unwrap().id, again.topic(TOPIC).await.unwrap().id);
    other.end().await;
}

async fn a_closed_broker_says_so_and_wakes_its_waiters<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(Limits::WIDE).await;
    broker.append(TOPIC, P0, vec![record("a")]).await.unwrap();
    let wait = broker.wait(TOPIC, P0, Offset(5));
    tokio::pin!(wait);
    assert!(futures::poll!(&mut wait).is_pending());
    fixture.close(&broker).await;
    let closed = BrokerError::Closed;
    assert_eq!(wait.await.unwrap_err(), closed);
    assert_eq!(broker.create_topic(TOPIC, 2).await.unwrap_err(), closed);
    assert_eq!(broker.topic(TOPIC).await.unwrap_err(), closed);
    assert_eq!(broker.append(TOPIC, P0, vec![record("b")]).await.unwrap_err(), closed);
    assert_eq!(broker.append(TOPIC, P0, vec![]).await.unwrap_err(), closed);
    assert_eq!(broker.read(TOPIC, P0, Offset(0), 1).await.unwrap_err(), closed);
    assert_eq!(broker.wait(TOPIC, P0, Offset(0)).await.unwrap_err(), closed);
    assert_eq!(broker.bounds(TOPIC, P0).await.unwrap_err(), closed);
    assert_eq!(broker.commit("evaluator", TOPIC, P0, Offset(0)).await.unwrap_err(), closed);
    fixture.close(&broker).await;
}
