//! What a check is given: the ports, a clock to turn, and hands that write and look where the
//! stages' ports do not.

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use tempfile::TempDir;
use tripline::adapters::clock::ManualClock;
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::model::{
    Alert, AlertId, AlertSeq, Condition, Partition, Policy, Price, Symbol, Timestamp, UserId,
    Version, Watch, WatchId, WatchSpec,
};
use tripline::pipeline::broker::partition_of;
use tripline::pipeline::collect::CollectStore;
use tripline::pipeline::evaluate::{EvaluateStore, Evaluation, NumberedAlert};
use tripline::pipeline::notify::{Incoming, NotifyStore};
use tripline::pipeline::store::{Fence, Span};

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const PRICES_KEPT: u32 = 3;

pub(crate) struct Fixture {
    pub(crate) evaluate: Arc<dyn EvaluateStore>,
    pub(crate) notify: Arc<dyn NotifyStore>,
    pub(crate) collect: Arc<dyn CollectStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) hands: Hands,
    pub(crate) store: Arc<SqliteStore>,
    _folder: TempDir,
}

/// A fresh embedded store.
pub(crate) async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let clock = Arc::new(ManualClock::new(at(1_000_000)));
    let options = SqliteStoreOptions { prices_per_symbol: PRICES_KEPT, ..Default::default() };
    let store = SqliteStore::open(&path, PARTITIONS, options, clock.clone()).await.unwrap();
    let store = Arc::new(store);
    Fixture {
        evaluate: store.clone(),
        notify: store.clone(),
        collect: store.clone(),
        store,
        clock,
        hands: Hands { path },
        _folder: folder,
    }
}

/// Writes what commands write, and reads what queries read, from a connection of its own, as
/// another process would.
pub(crate) struct Hands {
    path: PathBuf,
}

impl Hands {
    pub(crate) async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(&self.path).connect().await.unwrap()
    }

    pub(crate) async fn run(&self, sql: impl Into<String>) -> i64 {
        let sql = AssertSqlSafe(sql.into());
        let done = sqlx::query(sql).execute(&mut self.connect().await).await.unwrap();
        done.last_insert_rowid()
    }

    /// The text of the first column of all rows.
    pub(crate) async fn texts(&self, sql: impl Into<String>) -> Vec<String> {
        let sql = AssertSqlSafe(sql.into());
        let rows = sqlx::query(sql).fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn user(&self, name: &str) -> UserId {
        let sql = format!(
            "INSERT INTO users (email, email_folded, role, created_ms) \
             VALUES ('{name}@Example.com', '{name}@example.com', 'user', 0)"
        );
        UserId(u32::try_from(self.run(sql).await).unwrap())
    }

    /// A watch, without a change pending.
    pub(crate) async fn watch(&self, user: UserId, spec: WatchSpec) -> Watch {
        let units = |price: Option<Price>| {
            price.map_or("NULL".to_owned(), |price| price.units().to_string())
        };
        let (step, hysteresis) = match spec.policy() {
            Policy::Crossing { hysteresis } => (None, Some(hysteresis.units())),
            Policy::Step { step } => (Some(step.units()), None),
            Policy::Once => (None, None),
        };
        let number =
            |value: Option<i64>| value.map_or("NULL".to_owned(), |value| value.to_string());
        let symbol = spec.symbol();
        let sql = format!(
            "INSERT INTO watches (user_id, symbol, partition, version, fresh_since, \
             cooldown_since, paused, low, high, policy, step, hysteresis, cooldown_s) \
             VALUES ({user}, '{symbol}', {}, 1, 1, 1, 0, {}, {}, '{}', {}, {}, {})",
            partition(symbol),
            units(spec.low()),
            units(spec.high()),
            spec.policy().kind().as_str(),
            number(step),
            number(hysteresis),
            spec.cooldown_s(),
        );
        let id = WatchId(self.run(sql).await.cast_unsigned());
        self.run(format!(
            "INSERT INTO watched_symbols VALUES ('{symbol}', 1, 1) \
             ON CONFLICT DO UPDATE SET watches = watches + 1, active = active + 1"
        ))
        .await;
        let first = Version::FIRST;
        Watch {
            id,
            user,
            version: first,
            fresh_since: first,
            cooldown_since: first,
            paused: false,
            spec,
        }
    }

    pub(crate) async fn change(&self, symbol: Symbol, watch: Option<WatchId>) {
        let watch = watch.map_or("NULL".to_owned(), |watch| watch.to_string());
        let partition = partition(symbol);
        self.run(format!(
            "INSERT INTO changes (partition, symbol, watch_id) \
             VALUES ({partition}, '{symbol}', {watch})"
        ))
        .await;
    }

    /// Deletes a watch as the command does: what is open is cancelled with it.
    pub(crate) async fn delete_watch(&self, watch: &Watch) {
        self.run(format!("DELETE FROM watches WHERE id = {}", watch.id)).await;
        self.cancel(format!("watch_id = {}", watch.id), "watch").await;
    }

    /// Deletes a user with all watches.
    pub(crate) async fn delete_user(&self, user: UserId) {
        self.run(format!("DELETE FROM watches WHERE user_id = {user}")).await;
        self.run(format!("DELETE FROM users WHERE id = {user}")).await;
        self.cancel(format!("user_id = {user}"), "user").await;
    }

    async fn cancel(&self, whose: String, reason: &str) {
        self.run(format!(
            "UPDATE deliveries SET state = 'cancelled', reason = '{reason}' \
             WHERE {whose} AND state IN ('pending', 'claimed')"
        ))
        .await;
    }

    /// What became of all deliveries, in the order of their alerts: `dead (attempts 1): why`.
    pub(crate) async fn deliveries(&self) -> Vec<String> {
        self.texts(
            "SELECT format('%s (attempts %d): %s', state, attempts, coalesce(reason, '-')) \
             FROM deliveries ORDER BY alert_id",
        )
        .await
    }
}

/// A symbol of the partition 0, unless another is computed: `A` and the like are spread.
pub(crate) fn partition(symbol: Symbol) -> Partition {
    partition_of(symbol.as_bytes(), PARTITIONS)
}

/// Some symbols of the partition 0, in order.
pub(crate) fn symbols(count: usize) -> Vec<Symbol> {
    let names = (0..100_000).map(|n| format!("S{n:05}").parse().unwrap());
    names.filter(|symbol| partition(*symbol) == ZERO).take(count).collect()
}

pub(crate) const ZERO: Partition = Partition(0);

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub(crate) fn price(text: &str) -> Price {
    text.parse().unwrap()
}

pub(crate) fn span(from: u64, to: u64) -> Span {
    use tripline::model::Offset;
    Span { from: Offset(from), to: Offset(to) }
}

/// A watch on the first symbol of the partition 0, told above 100.
pub(crate) fn spec() -> WatchSpec {
    WatchSpec::new(symbols(1)[0], None, Some(price("100")), Policy::default(), 0).unwrap()
}

/// The alert that a watch makes of a tick.
pub(crate) fn alert(watch: &Watch, time_ms: i64) -> Alert {
    Alert {
        id: AlertId {
            watch: watch.id,
            version: watch.version,
            time: at(time_ms),
            condition: Condition::Above,
        },
        user: watch.user,
        symbol: watch.spec.symbol(),
        price: price("101.25"),
        threshold: price("100"),
    }
}

pub(crate) fn numbered(seq: u64, alert: Alert) -> NumberedAlert {
    NumberedAlert { seq: AlertSeq(seq), alert, accepted: at(999) }
}

impl Fixture {
    /// The evaluator's ownership of the partition 0.
    pub(crate) async fn own(&self) -> Fence {
        self.evaluate.own(ZERO).await.unwrap().fence
    }

    /// Commits some alerts as the evaluator does, from where the partition 0 stands.
    pub(crate) async fn make(&self, alerts: &[Alert]) {
        let owned = self.evaluate.own(ZERO).await.unwrap();
        let seqs = (owned.last.0 + 1)..;
        let alerts = seqs.zip(alerts).map(|(seq, alert)| numbered(seq, *alert)).collect();
        let step = Evaluation { alerts, ..Default::default() };
        let from = owned.position.0;
        self.evaluate.commit(owned.fence, span(from, from + 1), &step).await.unwrap();
    }

    /// Some alerts of one user's watch, committed and ready to be accepted.
    pub(crate) async fn alerts(&self, count: i64) -> (Watch, Vec<Incoming>) {
        let user = self.hands.user("ann").await;
        let watch = self.hands.watch(user, spec()).await;
        let alerts: Vec<Alert> = (1..=count).map(|time| alert(&watch, time)).collect();
        self.make(&alerts).await;
        (watch, alerts.into_iter().map(incoming).collect())
    }
}

pub(crate) fn incoming(alert: Alert) -> Incoming {
    Incoming { alert, accepted: at(999) }
}
