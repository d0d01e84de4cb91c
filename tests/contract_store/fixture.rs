//! What a check is given: the ports, a clock to turn, and hands that write and look where the
//! stages' ports do not.

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tripline::adapters::clock::ManualClock;
use tripline::adapters::store::mysql::MysqlStore;
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::model::{
    Alert, AlertId, AlertSeq, Condition, Offset, Partition, Policy, Price, Symbol, Timestamp,
    UserId, Version, Watch, WatchId, WatchSpec,
};
use tripline::pipeline::broker::{Topic, TopicId, partition_of};
use tripline::pipeline::collect::CollectStore;
use tripline::pipeline::evaluate::{EvaluateStore, Evaluation, NumberedAlert};
use tripline::pipeline::notify::{Incoming, NotifyStore};
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};
use tripline::pipeline::store::{Fence, Span, TopicStore};
use tripline::server::store::{Command, CommandStore, Reply};
use uuid::Uuid;

use crate::mysql_server::Database;

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const PRICES_KEPT: u32 = 3;

pub(crate) struct Fixture {
    pub(crate) evaluate: Arc<dyn EvaluateStore>,
    pub(crate) notify: Arc<dyn NotifyStore>,
    pub(crate) collect: Arc<dyn CollectStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) hands: Hands,
    /// What goes when this goes: a folder or a database.
    _place: Box<dyn std::any::Any + Send + Sync>,
}

/// A fresh embedded store.
pub(crate) async fn sqlite() -> Option<Fixture> {
    Some(sqlite_store().await.0)
}

pub(crate) async fn sqlite_store() -> (Fixture, Arc<SqliteStore>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let clock = Arc::new(ManualClock::new(at(1_000_000)));
    let options = SqliteStoreOptions { prices_per_symbol: PRICES_KEPT, ..Default::default() };
    let store = SqliteStore::open(&path, options, clock.clone()).await.unwrap();
    adopt(&store).await;
    let (store, below) = (Arc::new(store), Below::Sqlite(path));
    (Fixture::of(store.clone(), clock, below, folder), store)
}

/// A fresh database on the server that the tests have, if they have one.
pub(crate) async fn mysql() -> Option<Fixture> {
    let database = Database::create().await?;
    let clock = Arc::new(ManualClock::new(at(1_000_000)));
    let options = SqliteStoreOptions { prices_per_symbol: PRICES_KEPT, ..Default::default() };
    let store = MysqlStore::open_with_time_of(database.options(), options, clock.clone());
    let store = store.await.unwrap();
    adopt(&store).await;
    let below = Below::Mysql(database.url());
    Some(Fixture::of(Arc::new(store), clock, below, database))
}

/// A topic of `partitions` partitions that `id` tells from others.
pub(crate) fn topic(partitions: u32, id: u128) -> Topic {
    Topic { partitions, id: TopicId(Uuid::from_u128(id)) }
}

/// Makes both topics known to a store.
pub(crate) async fn adopt(store: &impl TopicStore) {
    for (name, id) in [(TICKS_TOPIC, 1), (ALERTS_TOPIC, 2)] {
        store.adopt_topic(name, topic(PARTITIONS, id)).await.unwrap();
    }
}

enum Below {
    Sqlite(PathBuf),
    Mysql(String),
}

/// Gives commands; and writes and reads below the ports, from a connection of its own, as another
/// process would.
pub(crate) struct Hands {
    below: Below,
    commands: Arc<dyn CommandStore>,
}

impl Hands {
    pub(crate) async fn run(&self, sql: impl Into<String>) {
        let sql = AssertSqlSafe(sql.into());
        match &self.below {
            Below::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
            Below::Mysql(url) => {
                let mut connection = MySqlConnection::connect(url).await.unwrap();
                sqlx::query(sql).execute(&mut connection).await.unwrap();
            }
        }
    }

    /// The text of the first column of all rows.
    pub(crate) async fn texts(&self, sql: impl Into<String>) -> Vec<String> {
        let sql = AssertSqlSafe(sql.into());
        match &self.below {
            Below::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = options.connect().await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Below::Mysql(url) => {
                let mut connection = MySqlConnection::connect(url).await.unwrap();
                let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    async fn command(&self, command: Command) -> Reply {
        self.commands.execute(None, &command).await.unwrap().reply
    }

    pub(crate) async fn user(&self, name: &str) -> UserId {
        let email = format!("{name}@Example.com").parse().unwrap();
        let register = Command::Register { email, password_hash: "-".into(), watch: None };
        match self.command(register).await {
            Reply::Registered { user, .. } => UserId(user),
            other => panic!("expected an account, found {other:?}"),
        }
    }

    /// A watch, without a change pending.
    pub(crate) async fn watch(&self, user: UserId, spec: WatchSpec) -> Watch {
        let Reply::Watch { id } = self.command(Command::CreateWatch { user, spec }).await else {
            panic!("expected a watch");
        };
        self.run(format!("DELETE FROM changes WHERE watch_id = {id}")).await;
        let first = Version::FIRST;
        Watch {
            id: WatchId(id),
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
            "INSERT INTO changes (`partition`, symbol, watch_id) \
             VALUES ({partition}, '{symbol}', {watch})"
        ))
        .await;
    }

    pub(crate) async fn delete_watch(&self, watch: &Watch) {
        let delete = Command::DeleteWatch { user: watch.user, watch: watch.id };
        assert_eq!(self.command(delete).await, Reply::Done);
    }

    pub(crate) async fn delete_user(&self, user: UserId) {
        assert_eq!(self.command(Command::DeleteUser { user }).await, Reply::Done);
    }

    /// What became of all deliveries, in the order of their alerts: `dead (attempts 1): why`.
    pub(crate) async fn deliveries(&self) -> Vec<String> {
        self.texts(
            "SELECT concat(state, ' (attempts ', attempts, '): ', coalesce(reason, '-')) \
             FROM deliveries ORDER BY alert_id",
        )
        .await
    }
}

/// The partition of a symbol.
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
    fn of<S>(
        store: Arc<S>,
        clock: Arc<ManualClock>,
        below: Below,
        place: impl std::any::Any + Send + Sync,
    ) -> Self
    where
        S: EvaluateStore + NotifyStore + CollectStore + CommandStore,
    {
        Self {
            evaluate: store.clone(),
            notify: store.clone(),
            collect: store.clone(),
            clock,
            hands: Hands { below, commands: store },
            _place: Box::new(place),
        }
    }

    /// The evaluator's ownership of the partition 0.
    pub(crate) async fn own(&self) -> Fence {
        self.evaluate.own(ZERO, Offset(0)).await.unwrap().fence
    }

    /// Commits some alerts as the evaluator does, from where the partition 0 stands.
    pub(crate) async fn make(&self, alerts: &[Alert]) {
        let owned = self.evaluate.own(ZERO, Offset(0)).await.unwrap();
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
    Incoming { alert, accepted: at(999), trace: None }
}
