//! What only the store on a server has: other processes, its schema, connections that break.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use tripline::adapters::clock::SystemClock;
use tripline::adapters::store::mysql::{MysqlOptions, MysqlStore};
use tripline::model::{Policy, Symbol, UserId, Version, WatchId, WatchSpec, WatchState};
use tripline::pipeline::evaluate::{Applied, ChangeKind, EvaluateStore, Evaluation, PendingChange};
use tripline::pipeline::store::{StoreError, TopicStore};
use tripline::server::store::{
    Command, CommandStore, QueryStore, Reply, WatchPatch, WatchRef, WatchView,
};

use crate::fixture::{ZERO, adopt, price, span, spec, symbols, topic};
use crate::mysql_server::Database;

async fn open(options: MysqlOptions) -> Result<MysqlStore, StoreError> {
    MysqlStore::open(options, Default::default(), Arc::new(SystemClock)).await
}

/// A store on a fresh database.
async fn made() -> Option<(Database, MysqlStore)> {
    let database = Database::create().await?;
    let store = open(database.options()).await.unwrap();
    adopt(&store).await;
    Some((database, store))
}

async fn register(store: &MysqlStore, email: &str) -> UserId {
    let email = email.parse().unwrap();
    let register = Command::Register { email, password_hash: "-".into(), watch: None };
    match store.execute(None, &register).await.unwrap().reply {
        Reply::Registered { user, .. } => UserId(user),
        other => panic!("expected an account, found {other:?}"),
    }
}

async fn create(store: &MysqlStore, user: UserId) -> u64 {
    let create = Command::CreateWatch { user, spec: spec() };
    match store.execute(None, &create).await.unwrap().reply {
        Reply::Watch { id } => id,
        other => panic!("expected a watch, found {other:?}"),
    }
}

async fn watches(store: &MysqlStore, user: UserId) -> Vec<WatchView> {
    QueryStore::watches(store, user, None, 1_000).await.unwrap()
}

/// Applies changes as the evaluator does.
async fn apply(store: &MysqlStore, changes: &[PendingChange]) {
    let owned = EvaluateStore::own(store, ZERO, Default::default()).await.unwrap();
    let applied = changes.iter().map(|change| Applied {
        id: change.id,
        symbol: change.symbol,
        watch: None,
        after: None,
    });
    let step = Evaluation { applied: applied.collect(), ..Default::default() };
    let at = owned.position.0;
    EvaluateStore::commit(store, owned.fence, span(at, at), &step).await.unwrap();
}

/// Two connections: the one whose change has the smaller number commits last.
#[tokio::test]
async fn a_change_with_an_earlier_number_commits_last() {
    let Some((database, store)) = made().await else { return };
    let (early, late) = (symbols(2)[0], symbols(2)[1]);
    let insert = |symbol: Symbol| {
        let values = format!("(0, '{symbol}', NULL)");
        AssertSqlSafe(format!(
            "INSERT INTO changes (`partition`, symbol, watch_id) VALUES {values}"
        ))
    };
    let mut first = MySqlConnection::connect(&database.url()).await.unwrap();
    let mut second = MySqlConnection::connect(&database.url()).await.unwrap();
    let mut slow = first.begin().await.unwrap();
    sqlx::query(insert(early)).execute(&mut *slow).await.unwrap();
    let mut quick = second.begin().await.unwrap();
    sqlx::query(insert(late)).execute(&mut *quick).await.unwrap();
    quick.commit().await.unwrap();

    let seen = store.changes(ZERO, 9).await.unwrap();
    assert_eq!(seen.iter().map(|change| change.symbol).collect::<Vec<_>>(), [late]);
    apply(&store, &seen).await;
    assert_eq!(store.changes(ZERO, 9).await.unwrap(), []);

    slow.commit().await.unwrap();
    store.changed(ZERO).await;
    let left = store.changes(ZERO, 9).await.unwrap();
    assert!(left.len() == 1 && left[0].id < seen[0].id, "{left:?} after {seen:?}");
    assert_eq!((left[0].symbol, left[0].what), (early, ChangeKind::Reset));
    apply(&store, &left).await;
    assert_eq!(store.changes(ZERO, 9).await.unwrap(), []);
}

/// By what another process commits, within the time of a look for it.
#[tokio::test]
async fn another_process_wakes_the_evaluator() {
    let Some((database, store)) = made().await else { return };
    let other = open(database.options()).await.unwrap();
    assert_eq!(store.changes(ZERO, 9).await.unwrap(), []);
    let user = register(&other, "ann@example.com").await;
    let woken = async {
        store.changed(ZERO).await;
        store.changes(ZERO, 9).await.unwrap()
    };
    let (seen, _) =
        tokio::join!(tokio::time::timeout(Duration::from_secs(30), woken), create(&other, user));
    assert_eq!(seen.unwrap().len(), 1);
}

/// A step locks no watch: a deletion may commit after it has looked which ones there are.
#[tokio::test]
async fn a_state_that_comes_after_a_deletion_goes_with_its_change() {
    let Some((database, store)) = made().await else { return };
    let user = register(&store, "ann@example.com").await;
    let (first, deleted) = (create(&store, user).await, create(&store, user).await);
    apply(&store, &store.changes(ZERO, 9).await.unwrap()).await;
    let version = WatchState { version: Version::FIRST, ..Default::default() };
    let states = |ids: &[u64]| ids.iter().map(|id| (WatchId(*id), version)).collect();
    let owned = EvaluateStore::own(&store, ZERO, Default::default()).await.unwrap();
    let step = Evaluation { states: states(&[first]), ..Default::default() };
    EvaluateStore::commit(&store, owned.fence, span(0, 1), &step).await.unwrap();

    // The step waits for the state that comes first in it.
    let mut other = MySqlConnection::connect(&database.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    let lock_all = "SELECT watch_id FROM watch_states FOR UPDATE";
    sqlx::query(lock_all).fetch_all(&mut *lock).await.unwrap();
    let step = Evaluation { states: states(&[first, deleted]), ..Default::default() };
    let committing = tokio::spawn({
        let store = store.clone();
        async move { EvaluateStore::commit(&store, owned.fence, span(1, 2), &step).await }
    });
    let mut watcher = MySqlConnection::connect(&database.url()).await.unwrap();
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist \
                   WHERE DB = DATABASE() AND INFO LIKE 'INSERT INTO watch_states%'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watcher).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    let delete = Command::DeleteWatch { user, watch: WatchId(deleted) };
    assert_eq!(store.execute(None, &delete).await.unwrap().reply, Reply::Done);
    lock.rollback().await.unwrap();
    committing.await.unwrap().unwrap();

    let mut kept = async || -> Vec<u64> {
        let kept = "SELECT CAST(watch_id AS UNSIGNED) FROM watch_states ORDER BY watch_id";
        sqlx::query_scalar(kept).fetch_all(&mut watcher).await.unwrap()
    };
    assert_eq!(kept().await, [first, deleted]);
    apply(&store, &store.changes(ZERO, 9).await.unwrap()).await;
    assert_eq!(kept().await, [first]);
}

#[tokio::test]
async fn several_that_start_at_once_make_one_schema() {
    let Some(database) = Database::create().await else { return };
    let stores = join_all((0..4).map(|_| open(database.options()))).await;
    for store in &stores {
        adopt(store.as_ref().unwrap()).await;
    }
    let user = register(stores[0].as_ref().unwrap(), "ann@example.com").await;
    create(stores[3].as_ref().unwrap(), user).await;
    assert_eq!(watches(stores[1].as_ref().unwrap(), user).await.len(), 1);
}

#[tokio::test]
async fn what_a_newer_version_added_is_left_alone() {
    let Some((database, store)) = made().await else { return };
    store.close().await;
    let applied = |version, description| {
        format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) VALUES ({version}, '{description}', TRUE, x'00', 0)"
        )
    };
    database.run(applied(9998, "expand by a column")).await;
    open(database.options()).await.unwrap().close().await;
    database.run(applied(9999, "contract a column")).await;
    let error = open(database.options()).await.err().unwrap();
    let text = error.to_string();
    assert!(!error.is_transient() && text.contains("migration 9999"), "{text}");
    assert!(text.contains("newer versions of tripline only"), "{text}");
}

#[tokio::test]
async fn an_interrupted_migration_is_done_again() {
    let Some((database, store)) = made().await else { return };
    register(&store, "ann@example.com").await;
    store.close().await;
    for (version, undo) in [
        (2, "DROP TABLE symbol_notes"),
        (3, "ALTER TABLE symbol_states DROP COLUMN market"),
        // Interrupted after it had taken effect.
        (3, "DO 0"),
    ] {
        let interrupted =
            format!("UPDATE _sqlx_migrations SET success = FALSE WHERE version = {version}");
        database.run(&format!("{interrupted}; {undo}")).await;
        let store = open(database.options()).await.unwrap();
        assert_eq!(store.symbol_notes(&symbols(1)).await.unwrap(), []);
        assert_eq!(store.quote(symbols(1)[0]).await.unwrap(), None);
        store.close().await;
    }
    let store = open(database.options()).await.unwrap();
    let again = Command::Register {
        email: "ann@example.com".parse().unwrap(),
        password_hash: "-".into(),
        watch: None,
    };
    let reply = store.execute(None, &again).await.unwrap().reply;
    assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
}

#[tokio::test]
async fn another_log_is_refused() {
    let Some((_database, store)) = made().await else { return };
    let name = "to-alert-system";
    let error = store.adopt_topic(name, topic(6, 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Partitions { expected: 2, found: 6, .. }), "{error}");
    let error = store.adopt_topic(name, topic(2, 9)).await.unwrap_err();
    assert!(matches!(error, StoreError::Replaced { .. }), "{error}");
    adopt(&store).await;
}

#[tokio::test]
async fn a_wrong_url_says_what_would_be_right() {
    for (url, expected) in [
        ("mysql://tripline@127.0.0.1:1", "expected mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("here", "expected mysql://USER:PASSWORD@HOST:PORT/DATABASE"),
    ] {
        let options = MysqlOptions { url: url.to_owned(), ..Default::default() };
        let error = open(options).await.err().unwrap();
        assert!(!error.is_transient() && error.to_string().contains(expected), "{error}");
    }
    let Some(server) = crate::mysql_server::server() else { return };
    let url = format!("{server}/tripline_missing");
    let error = open(MysqlOptions { url, ..Default::default() }).await.err().unwrap();
    assert!(!error.is_transient() && error.to_string().contains("create it"), "{error}");
}

/// Longer than its column would be in another character set, and not of one script.
#[tokio::test]
async fn long_and_foreign_text_is_kept() {
    let Some((_database, store)) = made().await else { return };
    let local = "Ж".repeat(60) + "日本語🦀İ";
    for address in [format!("{local}@Ünï.example"), "a'\"\\%_@x.example".to_owned()] {
        let user = register(&store, &address).await;
        use tripline::server::store::AccountStore;
        let account = store.account(&address.to_lowercase().parse().unwrap()).await;
        let account = account.unwrap().unwrap();
        assert_eq!((account.user, account.email.as_str()), (user, address.as_str()));
    }
    // Not the same, though some collations say so.
    let straße = register(&store, "straße@x.example").await;
    assert_ne!(register(&store, "strasse@x.example").await, straße);
    use tripline::server::store::{Request, RequestKey};
    for (id, fingerprint) in [("r", 1), ("r ", 2), ("R", 3)] {
        let key = RequestKey { caller: "user:1".into(), id: id.into() };
        let request = Request { key, method: "m".into(), fingerprint: [fingerprint; 32] };
        let recorded = store.record(&request, &Reply::Done).await.unwrap();
        assert_eq!(recorded.fingerprint, request.fingerprint, "{id:?}");
    }
}

/// Its connections are closed by the server: idle ones, and one that waits for a lock.
#[tokio::test]
async fn lost_connections_are_not_noticed_by_callers() {
    let Some((database, store)) = made().await else { return };
    let user = register(&store, "ann@example.com").await;
    let id = create(&store, user).await;
    let kill = async |condition: &str| {
        let mut connection = MySqlConnection::connect(&database.url()).await.unwrap();
        let list = format!(
            "SELECT CAST(ID AS SIGNED) FROM information_schema.PROCESSLIST WHERE DB = '{}' \
             AND ID <> CONNECTION_ID() AND {condition}",
            database.name()
        );
        let ids: Vec<i64> =
            sqlx::query_scalar(AssertSqlSafe(list)).fetch_all(&mut connection).await.unwrap();
        for id in &ids {
            sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut connection).await.ok();
        }
        ids.len()
    };
    assert!(kill("TRUE").await > 0);
    assert_eq!(watches(&store, user).await.len(), 1);

    // Another has the watch locked; whoever waits for it loses its connection.
    let mut other = MySqlConnection::connect(&database.url()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    sqlx::query("SELECT id FROM watches FOR UPDATE").fetch_all(&mut *lock).await.unwrap();
    let patch = WatchPatch { high: Some(Some(price("105"))), ..Default::default() };
    let watch = WatchRef::Id(tripline::model::WatchId(id));
    let change = Command::ChangeWatch { user, watch, patch, or_create: None };
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.execute(None, &change).await }
    });
    while kill("INFO LIKE '%WHERE w.id = % AND w.user_id%'").await == 0 {
        tokio::task::yield_now().await;
    }
    lock.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().reply, Reply::Watch { id });
    assert_eq!(watches(&store, user).await[0].watch.version.0, 2);
}

/// Many at once who get into each other's way: deadlocks are attempted again, nothing is lost or
/// done twice, and the counts are right in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_lose_nothing() {
    const CLIENTS: u64 = 16;
    const ROUNDS: u64 = 12;
    let Some((_database, store)) = made().await else { return };
    let user = register(&store, "ann@example.com").await;
    let names = symbols(3);
    let id = create(&store, user).await;
    let clients = (0..CLIENTS).map(|client| {
        let (store, names) = (store.clone(), names.clone());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let symbol = names[usize::try_from((client + round) % 3).unwrap()];
                // Everybody changes the same watch to something new, and has another come and go.
                let high = price(&(1_000 + client * ROUNDS + round).to_string());
                let patch = WatchPatch {
                    symbol: Some(symbol),
                    low: Some(None),
                    high: Some(Some(high)),
                    ..Default::default()
                };
                let watch = WatchRef::Id(tripline::model::WatchId(id));
                let change = Command::ChangeWatch { user, watch, patch, or_create: None };
                let reply = store.execute(None, &change).await.unwrap().reply;
                assert_eq!(reply, Reply::Watch { id });
                let spec = WatchSpec::new(symbol, None, None, Policy::Once, 0).unwrap();
                let create = Command::CreateWatch { user, spec };
                let Reply::Watch { id } = store.execute(None, &create).await.unwrap().reply else {
                    panic!("expected a watch");
                };
                let delete = Command::DeleteWatch { user, watch: tripline::model::WatchId(id) };
                assert_eq!(store.execute(None, &delete).await.unwrap().reply, Reply::Done);
            }
        })
    });
    for client in join_all(clients).await {
        client.unwrap();
    }
    let left = watches(&store, user).await;
    assert_eq!(left.len(), 1);
    assert_eq!(u64::from(left[0].watch.version.0), 1 + CLIENTS * ROUNDS);
    use tripline::pipeline::collect::CollectStore;
    assert_eq!(store.watched().await.unwrap(), [left[0].watch.spec.symbol()]);
    assert_eq!(store.watched_count().await.unwrap(), 1);
}
