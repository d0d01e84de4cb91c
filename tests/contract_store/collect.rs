//! What the collector asks for.

use crate::fixture::{Fixture, spec, symbols};

pub(crate) async fn symbols_are_listed_once_and_not_while_paused(f: &Fixture) {
    assert_eq!(f.collect.watched().await.unwrap(), []);
    let user = f.hands.user("ann").await;
    f.hands.watch(user, spec()).await;
    f.hands.watch(user, spec()).await;
    f.hands.run("INSERT INTO watched_symbols VALUES ('PAUSED', 1, 0), ('A', 2, 1)").await;
    assert_eq!(f.collect.watched().await.unwrap(), ["A".parse().unwrap(), symbols(1)[0]]);
    assert_eq!(f.collect.watched_count().await.unwrap(), 3);
}
