//! Upkeep: what has outlived its age goes, a bounded amount a call.

use std::time::Duration;

use tripline::pipeline::clock::Clock;
use tripline::pipeline::notify::Outcome;
use tripline::server::store::{DeliveryState, Reply};

use crate::fixture::{
    DAY, Fixture, HASH, KEEP_DAYS, SWEEP_ROWS_MAX, at, dead, dead_record, request, spec, symbol,
};

impl Fixture {
    fn pass_days(&self, days: u64) {
        self.clock.advance(DAY * u32::try_from(days).unwrap());
    }

    async fn sweep(&self) -> bool {
        self.store.sweep().await.unwrap()
    }
}

pub(crate) async fn old_alerts_go_and_undelivered_ones_stay(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let watch = f.watch(ann, f.create(ann, spec("A")).await).await;
    let pending = f.tell(&watch, at(1)).await;
    f.accept(&[pending], &[], 0).await;
    let unpublished = f.tell(&watch, at(2)).await;
    let mut ended = Vec::new();
    let count = 2 * i64::from(SWEEP_ROWS_MAX) + 1;
    for second in 10..10 + count {
        ended.push(f.deliver(&watch, at(second), Outcome::Delivered).await.alert);
    }
    f.pass_days(KEEP_DAYS);
    assert!(!f.sweep().await);
    assert_eq!(f.store.alerts(ann, None, 100).await.unwrap().len(), ended.len() + 2);
    f.clock.advance(Duration::from_millis(1));
    // Some at a time, the oldest first.
    assert!(f.sweep().await);
    let left = f.store.alerts(ann, None, 100).await.unwrap().len();
    assert_eq!(left, ended.len() + 2 - SWEEP_ROWS_MAX as usize);
    assert!(f.sweep().await);
    assert!(!f.sweep().await);
    for alert in &ended {
        assert_eq!(f.state(alert).await, None);
    }
    f.pass_days(1_000);
    f.sweep().await;
    for alert in [pending, unpublished] {
        assert_eq!(f.state(&alert).await, Some(DeliveryState::Pending));
    }
}

pub(crate) async fn young_dead_letters_stay(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let watch = f.watch(ann, f.create(ann, spec("A")).await).await;
    let alert = f.tell(&watch, at(1)).await;
    let delivery = f.accept(&[alert], &[], 1).await.remove(0);
    // The alert is old when it is given up; its dead letter is young.
    f.pass_days(KEEP_DAYS - 1);
    f.settle(delivery.id, dead()).await;
    f.accept(&[], &[dead_record(1)], 0).await;
    f.pass_days(KEEP_DAYS);
    f.sweep().await;
    assert_eq!(f.letters(10).await.len(), 2);
    f.pass_days(1);
    f.sweep().await;
    assert_eq!(f.letters(10).await, []);
    assert_eq!(f.state(&alert).await, None);
}

pub(crate) async fn requests_and_sessions_go_after_their_time(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    let asked = request("user:1", "r1", 1);
    f.store.record(&asked, &Reply::Done).await.unwrap();
    f.clock.advance(DAY);
    f.sweep().await;
    assert!(f.store.recorded(&asked.key).await.unwrap().is_some());
    f.clock.advance(Duration::from_millis(1));
    f.sweep().await;
    assert_eq!(f.store.recorded(&asked.key).await.unwrap(), None);

    let expires = f.clock.now().plus(DAY);
    f.store.open_session(ann, HASH, [1; 32], expires).await.unwrap();
    f.sweep().await;
    assert!(f.store.session([1; 32]).await.unwrap().is_some());
    f.clock.advance(DAY);
    f.sweep().await;
    assert_eq!(f.store.session([1; 32]).await.unwrap(), None);
}

pub(crate) async fn prices_without_news_go(f: Fixture) {
    let ann = f.register("ann@example.com").await;
    for name in ["OLD", "NEW"] {
        f.create(ann, spec(name)).await;
    }
    let day = i64::try_from(DAY.as_secs()).unwrap();
    let keep = i64::try_from(KEEP_DAYS).unwrap();
    let history = async |name| f.store.history(symbol(name), 10).await.unwrap().len();
    f.tick("OLD", 1, at(0), "5").await;
    // Ticks of the past are old by their own time only, not by the clock's.
    f.tick("NEW", 1, at(keep * day), "5").await;
    while f.sweep().await {}
    assert_eq!((history("OLD").await, history("NEW").await), (1, 1));
    f.tick("NEW", 2, at(keep * day + 1), "6").await;
    while f.sweep().await {}
    assert_eq!((history("OLD").await, history("NEW").await), (0, 2));
    assert!(f.store.quote(symbol("OLD")).await.unwrap().is_some());
}
