//! What the admin node says of the real cluster, in its log and as metrics, while a broker is gone.
//! As the others of the real cluster, with `TRIPLINE_TEST_FULL=1` only.

use crate::mysql_server::Database;
use crate::process::{Serve, eventually};
use crate::real::{ONE_AT_A_TIME, Restored, allowed, services};

/// Brokers; then of all partitions of both topics: led by some broker, led by broker 2,
/// under-replicated, with too few copies to append, without a leader.
type Gauges = [f64; 6];

fn gauges(admin: &Serve) -> Gauges {
    let of = |name: &str| admin.metric(&format!("tripline_kafka_{name}"));
    let (_, page) = admin.page("/metrics");
    let led = page.lines().find_map(|line| {
        line.strip_prefix("tripline_kafka_leader_partitions{broker=\"2\"} ")?.parse().ok()
    });
    [
        of("brokers"),
        of("leader_partitions"),
        led.unwrap_or(-1.0),
        of("partitions_under_replicated"),
        of("partitions_under_min_isr"),
        of("partitions_offline"),
    ]
}

async fn until(admin: &Serve, what: &str, so: impl Fn(&Gauges) -> bool) {
    let mut last = None;
    eventually(what, async || {
        let now = gauges(admin);
        if last != Some(now) {
            eprintln!("{what}: {now:?}");
            last = Some(now);
        }
        so(&now).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_gone_is_counted_until_it_is_back() {
    let Some(bootstrap) = allowed("a_broker_that_is_gone_is_counted_until_it_is_back") else {
        return;
    };
    let Some(database) = Database::create().await else { return };
    let _one = ONE_AT_A_TIME.lock().await;
    let _restored = Restored;
    let place = tempfile::tempdir().unwrap();
    let (kafka, mysql) = (bootstrap.join(","), database.url());
    let prefix = format!("topics.prefix={}-", database.name());
    let mut flags = vec!["--roles", "admin", "--kafka", &kafka, "--mysql", &mysql];
    for option in ["topics.partitions=6", "admin.count_s=1", "admin.report_s=1", &prefix] {
        flags.extend(["--set", option]);
    }
    let mut admin = Serve::launch_with(&place.path().join("data"), &flags, &[], &[]);
    admin.ready().await;
    eventually("the cluster was looked at", async || {
        admin.page("/metrics").1.contains("tripline_kafka_leader_partitions{").then_some(())
    })
    .await;
    let whole = |now: &Gauges| now[..2] == [3.0, 12.0] && now[3..] == [0.0; 3];
    until(&admin, "all is there", |now| whole(now) && now[2] > 0.0).await;
    let log = admin.log();
    assert!(log.contains("broker id=2 host=\"127.0.0.1\" port=19093"), "{log}");
    assert!(log.contains("replicas=") && log.contains("isr="), "{log}");
    services(&["kill", "kafka-2"]).await;
    // Two copies are enough to append, and each partition has a leader all the same.
    until(&admin, "one is gone", |now| *now == [2.0, 12.0, 0.0, 12.0, 0.0, 0.0]).await;
    services(&["up", "kafka"]).await;
    until(&admin, "it is back", whole).await;
    admin.stop().await;
}
