//! What the cases need: a store behind its ports, a clock, and the steps of other nodes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use tripline::adapters::clock::ManualClock;
use tripline::adapters::store::mysql::MysqlStore;
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::model::*;
use tripline::pipeline::broker::{Topic, TopicId, partition_of};
use tripline::pipeline::collect::CollectStore;
use tripline::pipeline::evaluate::{
    Applied, ChangeKind, EvaluateStore, Evaluation, NumberedAlert, PricePoint, SymbolState,
};
use tripline::pipeline::notify::{
    Claimant, Delivery, DeliveryId, Incoming, NotifyStore, Outcome, Settlement,
};
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
use tripline::pipeline::store::{DeadRecord, Span, TopicStore};
use tripline::server::store::*;

use crate::mysql_server::Database;

pub(crate) const PARTITIONS: u32 = 3;
pub(crate) const WATCHES_MAX: u32 = 5;
pub(crate) const SESSIONS_MAX: u32 = 3;
/// The password hash of whoever registers.
pub(crate) const HASH: Option<&str> = Some("hash");
pub(crate) const SWEEP_ROWS_MAX: u32 = 4;
/// Days after which alerts, deliveries and prices go.
pub(crate) const KEEP_DAYS: u64 = 90;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) trait Ports:
    CommandStore
    + AccountStore
    + QueryStore
    + OperatorStore
    + EvaluateStore
    + NotifyStore
    + CollectStore
{
}

impl<T> Ports for T where
    T: CommandStore
        + AccountStore
        + QueryStore
        + OperatorStore
        + EvaluateStore
        + NotifyStore
        + CollectStore
{
}

/// A fresh store with the bounds above.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Ports>,
    pub(crate) clock: Arc<ManualClock>,
    /// Opens the same data once more, as another process would.
    pub(crate) open: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Ports>> + Send + Sync>,
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn options() -> SqliteStoreOptions {
    let days = u32::try_from(KEEP_DAYS).unwrap();
    SqliteStoreOptions {
        watches_per_account_max: WATCHES_MAX,
        sessions_per_account_max: SESSIONS_MAX,
        sweep_rows_max: SWEEP_ROWS_MAX,
        prices_per_symbol: 4,
        keep_prices_days: days,
        keep_alerts_days: days,
        keep_deliveries_days: days,
        ..SqliteStoreOptions::default()
    }
}

pub(crate) async fn sqlite() -> Option<Fixture> {
    let (dir, clock) = (Arc::new(tempfile::tempdir().unwrap()), clock());
    let open = {
        let clock = clock.clone();
        move || {
            let (dir, clock) = (dir.clone(), clock.clone());
            async move {
                let path = dir.path().join("tripline.db");
                let store = SqliteStore::open(&path, options(), clock).await.unwrap();
                adopt(&store).await;
                Arc::new(store) as Arc<dyn Ports>
            }
            .boxed()
        }
    };
    Some(Fixture { store: open().await, clock, open: Box::new(open) })
}

/// A fresh database on the server that the tests have, if they have one.
pub(crate) async fn mysql() -> Option<Fixture> {
    Some(mysql_on(Arc::new(Database::create().await?)).await)
}

pub(crate) async fn mysql_on(database: Arc<Database>) -> Fixture {
    let clock = clock();
    let open = {
        let clock = clock.clone();
        move || {
            let (database, clock) = (database.clone(), clock.clone());
            async move {
                let store = MysqlStore::open_with_time_of(database.options(), options(), clock);
                let store = store.await.unwrap();
                adopt(&store).await;
                Arc::new(store) as Arc<dyn Ports>
            }
            .boxed()
        }
    };
    Fixture { store: open().await, clock, open: Box::new(open) }
}

/// Makes both topics known to a store.
async fn adopt(store: &impl TopicStore) {
    for (name, id) in [(TICKS_TOPIC, 1), (ALERTS_TOPIC, 2)] {
        let id = TopicId(uuid::Uuid::from_u128(id));
        store.adopt_topic(name, Topic { partitions: PARTITIONS, id }).await.unwrap();
    }
}

pub(crate) fn email(text: &str) -> Email {
    text.parse().unwrap()
}

pub(crate) fn symbol(text: &str) -> Symbol {
    text.parse().unwrap()
}

pub(crate) fn price(text: &str) -> Price {
    text.parse().unwrap()
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

/// A watch with the thresholds 100 and 200.
pub(crate) fn spec(name: &str) -> WatchSpec {
    let (low, high) = (Some(price("100")), Some(price("200")));
    WatchSpec::new(symbol(name), low, high, Policy::default(), 0).unwrap()
}

pub(crate) fn request(caller: &str, id: &str, fingerprint: u8) -> Request {
    Request {
        key: RequestKey { caller: caller.into(), id: id.into() },
        method: "test".into(),
        fingerprint: [fingerprint; 32],
    }
}

pub(crate) fn registration(address: &str) -> Command {
    Command::Register { email: email(address), password_hash: "hash".into(), watch: None }
}

impl Fixture {
    pub(crate) async fn run(&self, command: Command) -> Reply {
        self.store.execute(None, &command).await.unwrap().reply
    }

    pub(crate) async fn refusal(&self, command: Command) -> Refusal {
        match self.run(command).await {
            Reply::Refused(refusal) => refusal,
            other => panic!("expected a refusal, found {other:?}"),
        }
    }

    pub(crate) async fn register(&self, address: &str) -> UserId {
        match self.run(registration(address)).await {
            Reply::Registered { user, .. } => UserId(user),
            other => panic!("expected an account, found {other:?}"),
        }
    }

    pub(crate) async fn create(&self, user: UserId, spec: WatchSpec) -> WatchId {
        match self.run(Command::CreateWatch { user, spec }).await {
            Reply::Watch { id } => WatchId(id),
            other => panic!("expected a watch, found {other:?}"),
        }
    }

    pub(crate) async fn change(&self, user: UserId, watch: WatchId, patch: WatchPatch) -> Reply {
        let watch = WatchRef::Id(watch);
        self.run(Command::ChangeWatch { user, watch, patch, or_create: None }).await
    }

    pub(crate) async fn watches(&self, user: UserId) -> Vec<Watch> {
        let views = QueryStore::watches(&*self.store, user, None, 1_000).await.unwrap();
        views.into_iter().map(|view| view.watch).collect()
    }

    pub(crate) async fn watch(&self, user: UserId, id: WatchId) -> Watch {
        self.store.watch(user, WatchRef::Id(id)).await.unwrap().unwrap().watch
    }

    /// Takes the pending changes as their evaluators would, and returns which they were, each
    /// partition's in order.
    pub(crate) async fn apply(&self) -> Vec<(Symbol, Option<WatchId>)> {
        let mut all = Vec::new();
        for partition in (0..PARTITIONS).map(Partition) {
            let changes = self.store.changes(partition, 10_000).await.unwrap();
            let applied = |change: &tripline::pipeline::evaluate::PendingChange| Applied {
                id: change.id,
                symbol: change.symbol,
                watch: None,
                after: None,
            };
            let applied = changes.iter().map(applied).collect();
            self.commit(partition, Evaluation { applied, ..Evaluation::default() }).await;
            all.extend(changes.into_iter().map(|change| match change.what {
                ChangeKind::Watch { watch, .. } => (change.symbol, Some(watch)),
                ChangeKind::Reset => (change.symbol, None),
            }));
        }
        all
    }

    async fn commit(&self, partition: Partition, mut evaluation: Evaluation) {
        let owned = EvaluateStore::own(&*self.store, partition, Offset(0)).await.unwrap();
        for (alert, seq) in evaluation.alerts.iter_mut().zip(owned.last.0 + 1..) {
            alert.seq = AlertSeq(seq);
        }
        evaluation.published = AlertSeq(owned.last.0 + evaluation.alerts.len() as u64);
        let span = Span { from: owned.position, to: owned.position.next() };
        EvaluateStore::commit(&*self.store, owned.fence, span, &evaluation).await.unwrap();
    }

    /// Evaluates a tick, the symbol's `number`th kept price.
    pub(crate) async fn tick(&self, name: &str, number: u64, time: Timestamp, text: &str) {
        let (symbol, price) = (symbol(name), price(text));
        let last = Some(LastTick { time, price });
        let currency = Some("USD".parse().unwrap());
        let market = Some(MarketState::Regular);
        let evaluation = Evaluation {
            symbols: vec![SymbolState { symbol, last, currency, market, prices: number }],
            prices: vec![PricePoint { symbol, number, time, price }],
            ..Evaluation::default()
        };
        self.commit(partition_of(symbol.as_bytes(), PARTITIONS), evaluation).await;
    }

    /// Makes an alert of a watch, with the state that it leaves.
    pub(crate) async fn tell(&self, watch: &Watch, time: Timestamp) -> Alert {
        let condition = Condition::Above;
        let id = AlertId { watch: watch.id, version: watch.version, time, condition };
        let symbol = watch.spec.symbol();
        let alert =
            Alert { id, user: watch.user, symbol, price: price("201"), threshold: price("200") };
        let state = WatchState {
            version: watch.version,
            told: Told::Told { condition, bucket: 0 },
            last_alert: Some(time),
        };
        let evaluation = Evaluation {
            alerts: vec![NumberedAlert { seq: AlertSeq(0), alert, accepted: time }],
            states: vec![(watch.id, state)],
            ..Evaluation::default()
        };
        self.commit(partition_of(symbol.as_bytes(), PARTITIONS), evaluation).await;
        alert
    }

    pub(crate) fn claimant(&self) -> Claimant {
        Claimant { owner: "notifier".into(), lease_ms: 60_000 }
    }

    /// Takes alerts and undecodable records out of the log, and claims some of the deliveries.
    pub(crate) async fn accept(
        &self,
        alerts: &[Alert],
        dead: &[DeadRecord],
        claim: u32,
    ) -> Vec<Delivery> {
        let owned = NotifyStore::own(&*self.store, Partition(0), Offset(0)).await.unwrap();
        let span = Span { from: owned.position, to: owned.position.next() };
        let incoming: Vec<Incoming> = alerts
            .iter()
            .map(|alert| Incoming { alert: *alert, accepted: at(0), trace: None })
            .collect();
        let claimant = self.claimant();
        self.store.accept(owned.fence, span, &incoming, dead, &claimant, claim).await.unwrap()
    }

    pub(crate) async fn settle(&self, id: DeliveryId, outcome: Outcome) {
        let settlements = [Settlement { id, outcome }];
        self.store.settle(&self.claimant(), &settlements).await.unwrap();
    }

    /// Tells `watch` and ends the delivery at once.
    pub(crate) async fn deliver(
        &self,
        watch: &Watch,
        time: Timestamp,
        outcome: Outcome,
    ) -> Delivery {
        let alert = self.tell(watch, time).await;
        let delivery = self.accept(&[alert], &[], 1).await.remove(0);
        self.settle(delivery.id, outcome).await;
        delivery
    }

    /// The first dead letters, of whatever size.
    pub(crate) async fn letters(&self, limit: u32) -> Vec<DeadLetter> {
        self.store.dead_letters(None, limit, u64::MAX / 2).await.unwrap().letters
    }

    pub(crate) async fn state(&self, alert: &Alert) -> Option<DeliveryState> {
        self.store.delivery(alert.id).await.unwrap()
    }
}

pub(crate) fn dead() -> Outcome {
    Outcome::Dead { error: "no such mailbox".into() }
}

pub(crate) fn dead_record(offset: u64) -> DeadRecord {
    DeadRecord {
        topic: "to-notifier".into(),
        partition: Partition(0),
        offset: Offset(offset),
        reason: "expected an alert".into(),
        key: None,
        value: "junk".into(),
    }
}
