//! Growing the topics, on a real Kafka and a real MySQL or MariaDB: guarded, and complete also
//! after it ended in the middle.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnection, MySqlPool};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions};
use tripline::adapters::broker::prefixed::Prefixed;
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::adapters::store::mysql::{Growth, MysqlOptions};
use tripline::metrics::Metrics;
use tripline::model::{Partition, Timestamp};
use tripline::node::{GrowError, GrowOptions, Growing, Grown};
use tripline::pipeline::broker::{Broker, Record, partition_of};
use tripline::pipeline::clock::Clock;
use tripline::pipeline::cluster::ClusterReport;
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

/// The services that the environment names, or why there is no test.
fn services() -> Option<(String, String)> {
    let named = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let kafka = named("TRIPLINE_TEST_KAFKA_ONE").or_else(|| named("TRIPLINE_TEST_KAFKA"));
    let found = kafka.zip(named("TRIPLINE_TEST_MYSQL"));
    if found.is_none() {
        let required = named("TRIPLINE_TEST_REQUIRE").unwrap_or_default();
        let is_required = required.split(',').any(|name| name == "kafka" || name == "mysql");
        assert!(!is_required, "Kafka and MySQL are required, and not both are there");
        eprintln!("skipped: it needs TRIPLINE_TEST_KAFKA_ONE and TRIPLINE_TEST_MYSQL");
    }
    found
}

/// Waits hardly at all, so that what is waited for six times in a row takes no seconds.
struct Hasty;

#[async_trait]
impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, _: Duration) {
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
}

/// Topics and a store of two partitions, with some watches.
struct World {
    log: Arc<dyn Broker>,
    kafka: Arc<KafkaBroker>,
    /// What the topics' names begin with, which are this test's own.
    prefix: String,
    pool: MySqlPool,
    url: String,
}

const SYMBOLS: u32 = 300;

impl World {
    async fn new(kafka: &str, mysql: &str) -> Self {
        let prefix = format!("grow-{}-", uuid::Uuid::new_v4());
        let database = format!("tripline_{}", prefix.trim_end_matches('-').replace('-', "_"));
        let mut connection = MySqlConnection::connect(mysql).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        let url = format!("{}/{database}", mysql.trim_end_matches('/'));
        let pool = MySqlPool::connect(&url).await.unwrap();
        sqlx::migrate!("migrations/mysql").run(&pool).await.unwrap();
        let mut options = KafkaOptions {
            bootstrap: kafka.split(',').map(str::to_owned).collect(),
            ..KafkaOptions::default()
        };
        options.topic.replication_factor = 1;
        options.topic.min_insync_replicas = 1;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SeededRandom::new(1)));
        let kafka = KafkaBroker::new(options, clock, random, Metrics::new("test")).unwrap();
        let kafka = Arc::new(kafka);
        let log = Prefixed::over(Arc::<KafkaBroker>::clone(&kafka), &prefix);
        let world = Self { log, kafka, prefix, pool, url };
        world.fill().await;
        world
    }

    async fn fill(&self) {
        for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
            self.log.create_topic(topic, 2).await.unwrap();
            self.sql(&format!("INSERT INTO topics VALUES ('{topic}', 2, x'{}')", "00".repeat(16)))
                .await;
            let rows = format!("('{topic}', 0, 7, 0), ('{topic}', 1, 7, 0)");
            let insert = "INSERT INTO partitions (topic, `partition`, epoch, position) VALUES";
            self.sql(&format!("{insert} {rows}")).await;
        }
        for number in 0..SYMBOLS {
            let symbol = format!("S{number}");
            let partition = partition_of(symbol.as_bytes(), 2);
            self.sql(&format!(
                "INSERT INTO watches (user_id, symbol, `partition`, version, fresh_since, \
                 cooldown_since, paused, policy, cooldown_s) \
                 VALUES (1, '{symbol}', {partition}, 1, 1, 1, 0, 'once', 0)"
            ))
            .await;
            self.sql(&format!(
                "INSERT INTO symbol_states (symbol, `partition`, prices) \
                 VALUES ('{symbol}', {partition}, 0)"
            ))
            .await;
            self.sql(&format!(
                "INSERT INTO changes (`partition`, symbol) VALUES ({partition}, '{symbol}')"
            ))
            .await;
        }
    }

    fn cluster(&self) -> &dyn ClusterReport {
        self.log.cluster().unwrap()
    }

    async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    /// Grows to 5 partitions, with no connection of ours open but `others`.
    async fn grow(&self, go: bool) -> Result<Grown, GrowError> {
        let mysql = MysqlOptions { url: self.url.clone(), ..MysqlOptions::default() };
        let mut store = Growth::connect(&mysql).await.unwrap();
        let growing = Growing {
            broker: self.log.as_ref(),
            store: &mut store,
            clock: Arc::new(Hasty),
            say: &mut |_| (),
        };
        growing.run(&GrowOptions { partitions: 5, patience: Duration::ZERO, go }).await
    }

    /// How many rows are where their symbol belongs out of `total` partitions.
    async fn placed(&self, total: u32) -> u32 {
        let mut connection = MySqlConnection::connect(&self.url).await.unwrap();
        let rows = sqlx::query(
            "SELECT symbol, CAST(`partition` AS SIGNED) FROM watches UNION ALL \
             SELECT symbol, CAST(`partition` AS SIGNED) FROM changes UNION ALL \
             SELECT symbol, CAST(`partition` AS SIGNED) FROM symbol_states",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
        let is_placed = |row: &&sqlx::mysql::MySqlRow| {
            let (symbol, partition): (String, i64) = (row.get(0), row.get(1));
            i64::from(partition_of(symbol.as_bytes(), total).0) == partition
        };
        u32::try_from(rows.iter().filter(is_placed).count()).unwrap()
    }
}

#[tokio::test]
async fn topics_grow_once_everything_has_come_to_rest() {
    let Some((kafka, mysql)) = services() else { return };
    let world = World::new(&kafka, &mysql).await;
    let tick = Record {
        key: Some("S0".into()),
        value: "x".into(),
        headers: Default::default(),
        time: SystemClock.now(),
    };
    world.log.append(TICKS_TOPIC, Partition(1), vec![tick]).await.unwrap();
    let busy = world.grow(true).await.unwrap_err().to_string();
    assert!(busy.contains("partition 1 of to-alert-system is read up to 0 of 1"), "{busy}");
    world.sql("UPDATE partitions SET position = 1 WHERE topic = 'to-alert-system' AND `partition` = 1").await;
    let busy = world.grow(true).await.unwrap_err().to_string();
    assert!(busy.contains("connections to the database"), "{busy}");

    world.pool.close().await;
    assert_eq!(world.grow(false).await.unwrap(), Grown::Possible);
    assert_eq!(world.placed(2).await, 3 * SYMBOLS);

    // An earlier growth that ended between the two topics.
    world.cluster().grow(TICKS_TOPIC, 5).await.unwrap();
    assert_eq!(world.grow(true).await.unwrap(), Grown::Now);
    assert_eq!(world.placed(5).await, 3 * SYMBOLS);
    let view = world.cluster().describe(&[TICKS_TOPIC, ALERTS_TOPIC]).await.unwrap();
    assert!(view.topics.iter().all(|topic| topic.partitions.len() == 5), "{view:?}");
    let mut connection = MySqlConnection::connect(&world.url).await.unwrap();
    let row = sqlx::query(
        "SELECT CAST((SELECT MIN(epoch) FROM partitions) AS SIGNED), \
         CAST((SELECT MIN(partitions) FROM topics) AS SIGNED)",
    );
    let row = row.fetch_one(&mut connection).await.unwrap();
    assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (8, 5));
    assert_eq!(world.grow(true).await.unwrap(), Grown::Before);
    let drop = AssertSqlSafe(format!("DROP DATABASE {}", world.url.rsplit('/').next().unwrap()));
    sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
    for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
        world.kafka.wire().delete_topic(&format!("{}{topic}", world.prefix)).await.unwrap();
    }
}
