//! Every statement that the MySQL store sends: written to `target/mysql-statements.sql` for a
//! parser of MySQL 8, and explained on tables with many rows, where each must use an index.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tripline::model::{AlertSeq, Offset, Partition};
use tripline::pipeline::broker::partition_of;
use tripline::pipeline::evaluate::{EvaluateStore, Evaluation};
use tripline::pipeline::notify::Outcome;
use tripline::pipeline::store::Span;
use tripline::server::store::{
    Command, DeadLetterId, QueryStore, Reply, Role, WatchPatch, WatchRef,
};

use crate::fixture::{
    DAY, Fixture, HASH, PARTITIONS, at, dead, dead_record, email, mysql_on, price, registration,
    request, spec, symbol,
};
use crate::mysql_server::Database;

/// Collects the statements that sqlx tells of on one thread: other tests run meanwhile.
#[derive(Clone)]
struct Statements {
    texts: Arc<Mutex<BTreeSet<String>>>,
    thread: ThreadId,
}

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let here = std::thread::current().id() == self.thread;
        if !here || event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let text = if text.whole.is_empty() { text.summary } else { text.whole };
        let text: Vec<&str> = text.lines().map(without_comment).collect();
        for statement in text.join(" ").split(';') {
            let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            if !statement.is_empty() {
                self.texts.lock().unwrap().insert(statement);
            }
        }
    }
}

fn without_comment(line: &str) -> &str {
    line.split("--").next().unwrap_or_default()
}

#[derive(Default)]
struct Text {
    summary: String,
    whole: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => self.summary = value.to_owned(),
            "db.statement" => self.whole = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Everything that the store can do, once.
async fn tour(f: &Fixture) {
    let ann = f.register("ann@example.com").await;
    let bob = f.register("bob@example.com").await;
    f.refusal(registration("ann@example.com")).await;
    let id = f.create(ann, spec("A")).await;
    let other = f.create(ann, spec("B")).await;
    let none = WatchPatch::default();
    for patch in [
        WatchPatch { high: Some(Some(price("300"))), ..none },
        WatchPatch { symbol: Some(symbol("C")), ..none },
        WatchPatch { paused: Some(true), ..none },
        WatchPatch { paused: Some(false), symbol: Some(symbol("A")), ..none },
    ] {
        f.change(ann, id, patch).await;
    }
    let watch = WatchRef::Oldest;
    let or_create = Some(spec("D"));
    for user in [ann, bob] {
        f.run(Command::ChangeWatch { user, watch, patch: none, or_create }).await;
    }
    let asked = request("user:1", "r1", 1);
    let reset = Command::ResetSymbol { symbol: symbol("A") };
    for _ in 0..2 {
        f.store.execute(Some(&asked), &reset).await.unwrap();
        f.store.record(&request("user:1", "r2", 1), &Reply::Done).await.unwrap();
    }
    f.store.recorded(&asked.key).await.unwrap();
    f.apply().await;

    let (tomorrow, yesterday) = (at(4_000_000_000), at(0));
    for token in 1..6 {
        f.store.open_session(ann, HASH, [token; 32], tomorrow).await.unwrap();
    }
    f.store.open_session(bob, HASH, [9; 32], yesterday).await.unwrap();
    f.store.session([5; 32]).await.unwrap();
    f.store.close_session([5; 32]).await.unwrap();
    let password_hash = "new".to_owned();
    f.run(Command::SetPassword { user: ann, password_hash, keep: Some([4; 32]) }).await;
    for role in [Role::Feeder, Role::Operator] {
        f.store.put_account(&email("op@example.com"), Some(role), Some("hash")).await.unwrap();
    }
    f.store.account(&email("op@example.com")).await.unwrap();
    f.store.generation().await.unwrap();

    f.tick("A", 1, at(1), "5").await;
    f.tick("B", 1, at(1), "5").await;
    let (first, second) = (f.watch(ann, id).await, f.watch(ann, other).await);
    let mut alerts = Vec::new();
    for second in 1..4 {
        alerts.push(f.tell(&first, at(second)).await);
    }
    let got = f.accept(&alerts, &[dead_record(1)], 2).await;
    f.store.claim(&f.claimant(), 9).await.unwrap();
    f.settle(got[0].id, Outcome::Delivered).await;
    f.settle(got[1].id, dead()).await;
    f.deliver(&second, at(9), dead()).await;
    for letter in f.letters(9).await {
        let id = letter.id();
        f.store.dead_letter(id).await.unwrap();
        f.store.dead_letters(Some(id), 9, 1 << 20).await.unwrap();
        if let DeadLetterId::Record(id) = id {
            f.run(Command::RemoveDeadRecord { id }).await;
        }
    }
    f.run(Command::RetryDelivery { id: got[1].id.0 }).await;
    f.store.backlog().await.unwrap();
    f.store.delivery(alerts[0].id).await.unwrap();

    f.store.quote(symbol("A")).await.unwrap();
    f.store.history(symbol("A"), 9).await.unwrap();
    f.store.alerts(ann, None, 9).await.unwrap();
    QueryStore::watches(&*f.store, ann, None, 9).await.unwrap();
    for partition in (0..3).map(Partition) {
        f.store.symbols(partition, None, 9).await.unwrap();
        EvaluateStore::watches(&*f.store, partition, None, 9).await.unwrap();
        f.store.alerts_after(partition, AlertSeq(0), 9).await.unwrap();
    }
    f.store.watched().await.unwrap();
    f.store.watched_count().await.unwrap();
    f.store.import([1; 32], &[(email("ann@example.com"), spec("A"))]).await.unwrap();

    f.run(Command::DeleteWatch { user: ann, watch: other }).await;
    f.run(Command::DeleteUser { user: bob }).await;
    f.apply().await;
    // Another process's change, looked for.
    let other = (f.open)().await;
    other.execute(None, &Command::CreateWatch { user: ann, spec: spec("A") }).await.unwrap();
    let turn = async {
        tokio::task::yield_now().await;
        f.clock.advance(DAY * 1_000);
    };
    tokio::join!(f.store.changed(partition_of(b"A", PARTITIONS)), turn);
    while f.store.sweep().await.unwrap() {}
    let owned = EvaluateStore::own(&*f.store, Partition(0), Offset(0)).await.unwrap();
    let elsewhere = Span { from: Offset(77), to: Offset(78) };
    let step = Evaluation::default();
    let refused = EvaluateStore::commit(&*f.store, owned.fence, elsewhere, &step).await;
    assert!(refused.is_err());
}

/// As many rows in each table as make an index worth its while.
async fn fill(connection: &mut MySqlConnection) {
    let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 \
                  UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 \
                  UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let numbers = format!(
        "(SELECT 10000 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n \
         FROM {digits} a, {digits} b, {digits} c, {digits} e WHERE e.d < 3) n"
    );
    let state = "CASE n % 50 WHEN 0 THEN 'pending' WHEN 1 THEN 'claimed' WHEN 2 THEN 'dead' \
                 ELSE 'delivered' END";
    for (table, columns, values) in [
        ("users", "email, email_folded, role, created_ms", "n, n, 'user', n"),
        ("sessions", "token, user_id, created_ms, expires_ms", "SHA2(n, 256), n, n, n"),
        (
            "watches",
            "user_id, symbol, `partition`, version, fresh_since, cooldown_since, paused, policy, \
             cooldown_s",
            "n, n, n % 12, 1, 1, 1, 0, 'once', 0",
        ),
        ("watched_symbols", "symbol, watches, active", "n, 1, 1"),
        ("watch_states", "watch_id, version, bucket", "n, 1, 1"),
        ("changes", "`partition`, symbol", "n % 12, n"),
        ("applied_changes", "id, symbol, applied_ms", "n, n, n"),
        ("symbol_states", "symbol, `partition`, prices", "n, n % 12, 1"),
        ("prices", "symbol, slot, number, time_ms, price", "n, 0, 0, n, n"),
        (
            "alerts",
            "`partition`, seq, watch_id, version, time_ms, `condition`, user_id, symbol, price, \
             threshold, accepted_ms, made_ms",
            "n % 12, n, n, 1, n, 'above', n, n, 1, 1, n, n",
        ),
        (
            "deliveries",
            "alert_id, user_id, watch_id, state, due_ms, attempts, lease_until_ms, changed_ms",
            &format!("n, n, n, {state}, n, 0, n, n"),
        ),
        (
            "dead_records",
            "topic, `partition`, `offset`, reason, value, set_aside_ms",
            "'t', 0, n, 'r', 'v', n",
        ),
        (
            "requests",
            "caller, id, method, fingerprint, reply, answered_ms",
            "n, n, 'm', 'f', '{}', n",
        ),
    ] {
        let values = values.replace("SHA2(n, 256)", "UNHEX(SHA2(n, 256))");
        let insert = format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {numbers}");
        sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut *connection).await.unwrap();
        let analyze = format!("ANALYZE TABLE {table}");
        sqlx::raw_sql(AssertSqlSafe(analyze)).fetch_all(&mut *connection).await.unwrap();
    }
}

/// What reads a whole table because all of it is asked for, or only now and then.
const WHOLE: [&str; 5] = [
    "SELECT symbol FROM watched_symbols WHERE active > 0",
    "SELECT COUNT(*) FROM watched_symbols",
    "(SELECT COUNT(*) FROM dead_records)",
    "FROM symbol_states y WHERE (y.last_ms <",
    "_sqlx_migrations",
];

/// The statement with a value in each place.
fn with_values(statement: &str) -> String {
    let mut parts = statement.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Text compares with a column of numbers by its number.
        text += if text.ends_with("LIMIT ") { "10" } else { "'10007'" };
        text += part;
    }
    text
}

/// The steps of a statement's plan that read a whole table or index of many rows.
async fn scans(connection: &mut MySqlConnection, statement: &str) -> Vec<String> {
    let explain = format!("EXPLAIN {}", with_values(statement));
    let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(connection).await;
    let plan = plan.unwrap_or_else(|error| panic!("{error}: {statement}"));
    // All of it comes as text, whatever types the server gives its columns.
    let text = |row: &MySqlRow, column: &str| {
        row.try_get_unchecked::<Option<String>, _>(column).unwrap().unwrap_or_default()
    };
    let mut scans = Vec::new();
    for row in &plan {
        let (table, how) = (text(row, "table"), text(row, "type"));
        let rows: u64 = text(row, "rows").parse().unwrap_or(0);
        if !table.starts_with('<') && ["ALL", "index"].contains(&how.as_str()) && rows > 1_000 {
            scans.push(format!("{table}: {how} by {:?} over {rows} rows", text(row, "key")));
        }
    }
    scans
}

#[tokio::test]
async fn each_is_written_out_and_uses_an_index() {
    let Some(database) = Database::create().await else { return };
    let database = Arc::new(database);
    let statements = Statements { texts: Arc::default(), thread: std::thread::current().id() };
    // For all threads, or those that are met on another first would be taken for not listened to.
    let collector = tracing_subscriber::registry().with(statements.clone());
    tracing::subscriber::set_global_default(collector).unwrap();
    tracing::callsite::rebuild_interest_cache();
    tour(&mysql_on(database.clone()).await).await;
    let mut statements = std::mem::take(&mut *statements.texts.lock().unwrap());
    // Of the tests' clock only.
    statements.retain(|statement| !statement.starts_with("SET SESSION timestamp"));
    assert!(statements.len() > 80, "{} statements: {statements:#?}", statements.len());

    let mut schema = String::new();
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/mysql");
    for file in std::fs::read_dir(migrations).unwrap() {
        for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            schema += without_comment(line);
            schema.push(' ');
        }
    }
    let schema = schema.split(';').map(|one| one.split_whitespace().collect::<Vec<_>>().join(" "));
    let all: Vec<String> = schema
        .filter(|statement| !statement.is_empty())
        .chain(statements.iter().cloned())
        .map(|statement| statement + ";\n")
        .collect();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    std::fs::write(target.join("mysql-statements.sql"), all.concat()).unwrap();

    let mut connection = MySqlConnection::connect(&database.url()).await.unwrap();
    fill(&mut connection).await;
    // A scan is known for one.
    for whole in statements.iter().filter(|statement| statement.contains(WHOLE[0])) {
        assert!(!scans(&mut connection, whole).await.is_empty(), "{whole}");
    }
    let mut bad = Vec::new();
    for statement in &statements {
        let reads = ["SELECT", "UPDATE", "DELETE"].iter().any(|verb| statement.starts_with(verb));
        if reads && !WHOLE.iter().any(|whole| statement.contains(whole)) {
            for scan in scans(&mut connection, statement).await {
                bad.push(format!("{scan}\n  {statement}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
