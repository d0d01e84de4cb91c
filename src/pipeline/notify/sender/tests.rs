//! Scenarios of the delivery loop, on a clock turned by hand and a store in memory.

mod world;

use async_trait::async_trait;

use super::*;
use crate::adapters::clock::ManualClock;
use crate::model::{Offset, Partition};
use crate::pipeline::broker::Topic;
use crate::pipeline::notify::{Incoming, Owned};
use crate::pipeline::store::{DeadRecord, Fence, Span, TopicStore};
use world::Answer::{Panic, Permanent, Silence, Taken, Transient, Unreachable};
use world::{Answer, Fixed, Row, ScriptedMailer, World, delivery};

#[tokio::test(start_paused = true)]
async fn a_lone_alert_is_sent_at_once_whether_offered_or_found() {
    let world = World::new(SenderOptions::default(), &[]).await;
    world.add(&["a@x"]).await;
    assert_eq!(world.delivered(), 1, "no time has passed");

    let claimant = Claimant { owner: "test".to_owned(), lease_ms: 180_000 };
    let now = world.clock.now();
    let offered = Delivery { id: DeliveryId(2), ..delivery(DeliveryId(2), "b@x", now) };
    let row = Row { delivery: offered, due: now, claimed_until: None, end: None };
    world.store.rows().insert(DeliveryId(2), row);
    assert!(world.handle.free() >= 1);
    let claimed = world.store.claim(&claimant, 1).await.unwrap().deliveries;
    world.handle.offer(claimed);
    world.idle().await;
    assert_eq!(world.delivered(), 2);
    world.shows(r#"tripline_deliveries_total{outcome="delivered"} 2"#);
    world.shows("tripline_tick_to_mail_seconds_count 2");
    world.shows(r#"tripline_queue_depth{stage="deliver"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn judged_attempts_follow_the_schedule_and_end_in_the_dead_letters() {
    let world = World::new(SenderOptions::default(), &[("a@x", &[Transient; 9])]).await;
    world.add(&["a@x"]).await;
    for (attempts, delay_s) in [(1, 10), (2, 60), (3, 600), (4, 3_600)] {
        let counted = world.row(1, |row| row.delivery.attempts);
        assert_eq!((world.asked(), counted), (attempts, u32::try_from(attempts).unwrap()));
        world.pass(delay_s - 1).await;
        assert_eq!(world.asked(), attempts, "not before {delay_s} s");
        world.pass(1).await;
    }
    assert_eq!(world.asked(), 5);
    let end = world.row(1, |row| row.end.clone());
    let Some(Outcome::Dead { error }) = end else { panic!("expected dead, found {end:?}") };
    assert!(error.starts_with("given up after 5 attempts: ") && error.contains("450"), "{error}");
    world.pass(10_000).await;
    assert_eq!(world.asked(), 5);
    world.shows(r#"tripline_deliveries_total{outcome="retry"} 4"#);
    world.shows(r#"tripline_deliveries_total{outcome="dead"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn each_answer_has_its_outcome() {
    for (answers, attempts, ended) in [
        (&[Taken][..], 0, true),
        (&[Permanent], 0, true),
        (&[Transient], 1, false),
        (&[Panic], 1, false),
        (&[Unreachable], 0, false),
    ] {
        let world = World::new(SenderOptions::default(), &[("a@x", answers)]).await;
        world.add(&["a@x"]).await;
        let found = world.row(1, |row| (row.delivery.attempts, row.end.is_some()));
        assert_eq!(found, (attempts, ended), "{answers:?}");
        world.pass(10).await;
        assert!(world.row(1, |row| row.end.is_some()), "{answers:?}: the second time it is taken");
    }
}

#[tokio::test(start_paused = true)]
async fn one_silent_recipient_holds_up_nobody_and_ends_by_the_bound() {
    let world = World::new(SenderOptions::default(), &[("slow@x", &[Silence])]).await;
    let mut to = vec!["slow@x"];
    to.extend(std::iter::repeat_n("fast@x", 200));
    world.add(&to).await;
    assert_eq!((world.asked(), world.delivered()), (201, 200));
    assert!(world.store.settles.lock().unwrap().iter().any(|n| *n > 1), "settled in batches");
    world.pass(59).await;
    assert_eq!(world.asked(), 201);
    world.pass(1).await;
    world.shows(r#"tripline_deliveries_total{outcome="unreachable"} 1"#);
    world.pass(1).await;
    assert_eq!(world.delivered(), 201);
    assert_eq!(world.row(1, |row| row.delivery.attempts), 0, "silence is no judgement");
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_the_breaker_and_probes_close_it_again() {
    // Three failures open it, the first probe fails as well.
    let scripts: &[(&str, &[Answer])] = &[("a@x", &[Unreachable; 3]), ("b@x", &[Unreachable])];
    let world = World::new(SenderOptions::default(), scripts).await;
    world.add(&["a@x"]).await;
    world.pass(1).await;
    world.pass(1).await;
    assert_eq!(world.asked(), 3);
    world.shows(r#"tripline_breaker_open{peer="mail"} 2"#);
    assert_eq!(world.handle.free(), 0);
    let claims = world.store.claims.load(Ordering::Relaxed);
    world.add(&["b@x", "c@x", "d@x", "e@x"]).await;
    world.pass(19).await;
    assert_eq!(world.asked(), 3, "an open breaker lets nothing through");
    assert_eq!(world.store.claims.load(Ordering::Relaxed), claims, "nothing is claimed");
    world.pass(1).await;
    assert_eq!(world.asked(), 4, "one probe");
    world.pass(19).await;
    assert_eq!((world.asked(), world.delivered()), (4, 0), "open again");
    world.pass(1).await;
    assert_eq!((world.asked(), world.delivered()), (9, 5));
    world.shows(r#"tripline_breaker_open{peer="mail"} 0"#);
    assert_eq!(world.row(1, |row| row.delivery.attempts), 0, "no attempt was counted");
}

#[tokio::test(start_paused = true)]
async fn while_half_open_one_probe_is_sent_at_a_time() {
    let scripts: &[(&str, &[Answer])] =
        &[("a@x", &[Unreachable, Unreachable, Unreachable, Silence])];
    let world = World::new(SenderOptions::default(), scripts).await;
    world.add(&["a@x"]).await;
    world.pass(1).await;
    world.pass(1).await;
    world.pass(20).await;
    world.shows(r#"tripline_breaker_open{peer="mail"} 1"#);
    world.add(&["b@x", "c@x"]).await;
    assert_eq!((world.asked(), world.delivered()), (4, 0), "the probe is still out");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_while_loses_nothing_and_repeats_nothing() {
    let world = World::new(SenderOptions::default(), &[]).await;
    world.store.failures.store(3, Ordering::Relaxed);
    world.add(&["a@x"]).await;
    for _ in 0..5 {
        world.pass(1).await;
    }
    assert_eq!((world.asked(), world.delivered()), (1, 1));
    world.shows(r#"tripline_retries_total{stage="deliver"} 3"#);

    // Settling fails for longer than the lease lasts, so the delivery is claimed once more.
    world.store.settle_failures.store(50, Ordering::Relaxed);
    world.add(&["b@x"]).await;
    for _ in 0..300 {
        world.pass(1).await;
    }
    assert_eq!((world.asked(), world.delivered()), (2, 2), "sent once, settled in the end");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_good_ends_the_run() {
    struct Broken;
    #[async_trait]
    impl TopicStore for Broken {
        async fn adopt_topic(&self, _: &str, _: Topic) -> Result<(), StoreError> {
            unreachable!()
        }
    }
    #[async_trait]
    impl NotifyStore for Broken {
        async fn own(&self, _: Partition, _: Offset) -> Result<Owned, StoreError> {
            unreachable!()
        }
        async fn accept(
            &self,
            _: Fence,
            _: Span,
            _: &[Incoming],
            _: &[DeadRecord],
            _: &Claimant,
            _: u32,
        ) -> Result<Vec<Delivery>, StoreError> {
            unreachable!()
        }
        async fn claim(&self, _: &Claimant, _: u32) -> Result<Claimed, StoreError> {
            Err(StoreError::Permanent("damaged".to_owned()))
        }
        async fn settle(&self, _: &Claimant, _: &[Settlement]) -> Result<(), StoreError> {
            unreachable!()
        }
    }
    let ports = SenderPorts {
        store: Arc::new(Broken),
        mailer: Arc::new(ScriptedMailer::default()),
        clock: Arc::new(ManualClock::new(Timestamp::default())),
        random: Arc::new(Fixed),
        metrics: Metrics::new("test"),
    };
    let (sender, _handle) = Sender::new(ports, SenderOptions::default(), "test").unwrap();
    let error = sender.run(CancellationToken::new()).await.unwrap_err();
    assert_eq!(error, StoreError::Permanent("damaged".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_settles_what_ended_and_gives_the_rest_back() {
    let options = SenderOptions { in_flight_max: 3, ..SenderOptions::default() };
    let scripts: &[(&str, &[Answer])] = &[("slow@x", &[Silence])];
    let world = World::new(options, scripts).await;
    world.add(&["slow@x", "a@x"]).await;
    let now = world.clock.now();
    // Handed over in the very moment of the stop: never sent, but due for the next process.
    world.stop.cancel();
    let late = delivery(DeliveryId(3), "late@x", now);
    let lease = Some(now.plus(Duration::from_secs(180)));
    let row = Row { delivery: late.clone(), due: now, claimed_until: lease, end: None };
    world.store.rows().insert(DeliveryId(3), row);
    world.handle.offer(vec![late]);
    world.idle().await;
    assert!(!world.run.is_finished(), "it waits for the attempt in flight");
    world.pass(5).await;
    let World { run, store, mailer, .. } = world;
    run.await.unwrap().unwrap();
    let rows = store.rows();
    assert_eq!(rows[&DeliveryId(2)].end, Some(Outcome::Delivered));
    for id in [1, 3] {
        let row = &rows[&DeliveryId(id)];
        assert_eq!((&row.end, row.claimed_until), (&None, None), "{id} may be claimed at once");
        assert_eq!(row.delivery.attempts, 0);
    }
    assert!(!mailer.asked.lock().unwrap().contains(&"late@x".to_owned()));
}
