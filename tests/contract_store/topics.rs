//! Which topics the store's positions are of.

use tripline::model::Offset;
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
use tripline::pipeline::store::StoreError;

use crate::fixture::{Fixture, PARTITIONS, ZERO, topic};

/// The fixture has adopted both as it found them: the first with the id 1, the second with 2.
pub(crate) async fn a_topic_is_adopted_once_and_kept(f: &Fixture) {
    for _ in 0..2 {
        f.evaluate.adopt_topic(TICKS_TOPIC, topic(PARTITIONS, 1)).await.unwrap();
        f.notify.adopt_topic(ALERTS_TOPIC, topic(PARTITIONS, 2)).await.unwrap();
    }
}

pub(crate) async fn another_number_of_partitions_is_refused(f: &Fixture) {
    let refused = f.evaluate.adopt_topic(TICKS_TOPIC, topic(PARTITIONS + 4, 1)).await;
    let (topic, expected, found) = (TICKS_TOPIC.to_owned(), PARTITIONS, PARTITIONS + 4);
    assert_eq!(refused, Err(StoreError::Partitions { topic, expected, found }));
}

pub(crate) async fn a_topic_that_was_replaced_is_refused(f: &Fixture) {
    let fence = f.own().await;
    f.evaluate.commit(fence, crate::fixture::span(0, 7), &Default::default()).await.unwrap();
    let (kept, other) = (topic(PARTITIONS, 2), topic(PARTITIONS, 3));
    for _ in 0..2 {
        let refused = f.evaluate.adopt_topic(ALERTS_TOPIC, other).await;
        let (topic, expected, found) = (ALERTS_TOPIC.to_owned(), kept.id, other.id);
        assert_eq!(refused, Err(StoreError::Replaced { topic, expected, found }));
    }
    // Nothing was reset, and the one that belongs to the store is taken as before.
    f.evaluate.adopt_topic(ALERTS_TOPIC, kept).await.unwrap();
    assert_eq!(f.evaluate.own(ZERO, Offset(0)).await.unwrap().position, Offset(7));
}
