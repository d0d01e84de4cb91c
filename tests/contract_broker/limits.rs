//! The checks of the contract that not every adapter can pass: bounds, retention, restarts.

use tripline::model::{Offset, Partition};
use tripline::pipeline::broker::{Bounds, Broker, BrokerError};

use crate::support::{Fixture, Limits, P0, TOPIC, read_all, record, sized, texts};

const P1: Partition = Partition(1);
/// Ten records of 100 bytes.
const NARROW: Limits = Limits { retention_bytes: 1_000, batch_bytes_max: 400 };

pub(crate) async fn a_large_batch_is_refused<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(NARROW).await;
    let refused = |size| Err(BrokerError::TooLarge { size, limit: 400 });
    assert_eq!(broker.append(TOPIC, P0, vec![sized(401)]).await, refused(401));
    assert_eq!(broker.append(TOPIC, P0, vec![sized(200), sized(201)]).await, refused(401));
    assert_eq!(broker.append(TOPIC, P0, vec![sized(2_000)]).await, refused(2_000));
    assert_eq!(broker.append(TOPIC, P0, vec![sized(200), sized(200)]).await, Ok(Offset(0)));
    assert_eq!(broker.bounds(TOPIC, P0).await.unwrap().end, Offset(2));
}

pub(crate) async fn a_full_log_refuses_and_goes_on_after_a_commit<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(NARROW).await;
    broker.commit("evaluator", TOPIC, P0, Offset(0)).await.unwrap();
    for _ in 0..10 {
        broker.append(TOPIC, P0, vec![sized(100)]).await.unwrap();
    }
    let full = BrokerError::Full { used: 1_000, limit: 1_000 };
    for _ in 0..3 {
        let error = broker.append(TOPIC, P0, vec![sized(100)]).await.unwrap_err();
        assert_eq!(error, full);
        assert!(error.is_transient());
    }
    let bounds = Bounds { first: Offset(0), end: Offset(10) };
    assert_eq!(broker.bounds(TOPIC, P0).await, Ok(bounds), "nothing was appended or dropped");
    assert_eq!(read_all(&*broker, P0, Offset(0), 300).await.unwrap().len(), 10);

    broker.commit("evaluator", TOPIC, P0, Offset(3)).await.unwrap();
    for base in 10..13 {
        assert_eq!(broker.append(TOPIC, P0, vec![sized(100)]).await, Ok(Offset(base)));
    }
    assert_eq!(broker.append(TOPIC, P0, vec![sized(100)]).await, Err(full));
    let bounds = Bounds { first: Offset(3), end: Offset(13) };
    assert_eq!(broker.bounds(TOPIC, P0).await, Ok(bounds));
}

pub(crate) async fn retention_passes_no_group<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(NARROW).await;
    for _ in 0..9 {
        broker.append(TOPIC, P0, vec![sized(100)]).await.unwrap();
    }
    broker.commit("evaluator", TOPIC, P0, Offset(8)).await.unwrap();
    broker.commit("archive", TOPIC, P0, Offset(5)).await.unwrap();
    broker.append(TOPIC, P0, vec![sized(300)]).await.unwrap();
    let bounds = broker.bounds(TOPIC, P0).await.unwrap();
    assert!((2..=5).contains(&bounds.first.0), "{bounds:?}");
    let read = broker.read(TOPIC, P0, Offset(1), 100).await;
    assert_eq!(read, Err(BrokerError::OutOfRange { offset: Offset(1), bounds }));
    let read = read_all(&*broker, P0, bounds.first, 100).await.unwrap();
    assert_eq!(read.len() as u64, bounds.end.0 - bounds.first.0);

    // Group commits back: what is still there is needed again.
    broker.commit("evaluator", TOPIC, P0, bounds.first).await.unwrap();
    broker.commit("archive", TOPIC, P0, Offset(10)).await.unwrap();
    while broker.append(TOPIC, P0, vec![sized(100)]).await.is_ok() {}
    assert_eq!(broker.bounds(TOPIC, P0).await.unwrap().first, bounds.first);
}

pub(crate) async fn a_group_is_known_in_every_partition<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(NARROW).await;
    broker.append(TOPIC, P0, vec![sized(100)]).await.unwrap();
    broker.commit("evaluator", TOPIC, P0, Offset(1)).await.unwrap();
    // It has not come to the other partition yet, so it has not passed anything there.
    while broker.append(TOPIC, P1, vec![sized(100)]).await.is_ok() {}
    assert_eq!(broker.bounds(TOPIC, P1).await.unwrap().first, Offset(0));
    assert_eq!(broker.bounds(TOPIC, P0).await.unwrap().first, Offset(1));
}

pub(crate) async fn a_commit_past_the_end_frees_nothing_to_come<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(NARROW).await;
    broker.append(TOPIC, P0, vec![sized(100)]).await.unwrap();
    broker.commit("evaluator", TOPIC, P0, Offset(1_000)).await.unwrap();
    while broker.append(TOPIC, P0, vec![sized(100)]).await.is_ok() {}
    let bounds = Bounds { first: Offset(1), end: Offset(11) };
    assert_eq!(broker.bounds(TOPIC, P0).await, Ok(bounds));
}

pub(crate) async fn a_restart_keeps_everything<F: Fixture>(fixture: &F) {
    let mut expected = Vec::new();
    let mut known = None;
    for round in 0..4 {
        let broker = fixture.open(Limits::WIDE).await;
        let topic = broker.create_topic(TOPIC, 2 + round).await.unwrap();
        assert_eq!((topic.partitions, topic.id), (2, *known.get_or_insert(topic.id)));
        let base = Offset(expected.len() as u64);
        let batch: Vec<_> = (0..3).map(|i| format!("{round} {i}")).collect();
        expected.extend(batch.clone());
        let records = batch.into_iter().map(record).collect();
        assert_eq!(broker.append(TOPIC, P0, records).await, Ok(base));
        let read = read_all(&*broker, P0, Offset(0), 50).await.unwrap();
        assert_eq!(texts(&read), expected);
        // Every other time it goes without a farewell.
        if round % 2 == 0 {
            fixture.close(&broker).await;
        }
    }
}

pub(crate) async fn a_restart_keeps_offsets_and_groups<F: Fixture>(fixture: &F) {
    let broker = fixture.with_topic(NARROW).await;
    broker.append(TOPIC, P0, (0..4).map(|_| sized(100)).collect()).await.unwrap();
    broker.commit("evaluator", TOPIC, P0, Offset(4)).await.unwrap();
    for _ in 0..10 {
        broker.append(TOPIC, P1, vec![sized(100)]).await.unwrap();
    }
    let empty = Bounds { first: Offset(4), end: Offset(4) };
    assert_eq!(broker.bounds(TOPIC, P0).await, Ok(empty), "all of it had to go");
    fixture.close(&broker).await;
    drop(broker);

    let broker = fixture.open(NARROW).await;
    assert_eq!(broker.bounds(TOPIC, P0).await, Ok(empty));
    let full = Err(BrokerError::Full { used: 1_000, limit: 1_000 });
    assert_eq!(broker.append(TOPIC, P0, vec![sized(100)]).await, full, "the group is known");
    broker.commit("evaluator", TOPIC, P1, Offset(10)).await.unwrap();
    assert_eq!(broker.append(TOPIC, P0, vec![sized(100)]).await, Ok(Offset(4)));
}
