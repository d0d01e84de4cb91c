//! The running graph as its users meet it: files in, mails out, over restarts; and how it says
//! that it cannot go on.
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use process::{Mail, Serve, database, eventually, mails, number, page, settled};
use tempfile::TempDir;
use tripline::adapters::broker::sqlite::{SqliteLog, SqliteLogOptions};
use tripline::adapters::clock::SystemClock;
use tripline::model::{Partition, Timestamp};
use tripline::pipeline::broker::{Broker, Record};
use tripline::pipeline::record::TICKS_TOPIC;

/// Files of ticks and watches, the alerts that they make, and the ticks that come late.
struct Pair {
    ticks: &'static str,
    watches: &'static str,
    alerts: &'static str,
    late: f64,
}

const STOCKS: Pair = Pair {
    ticks: "data/us-stocks-2000-2013.csv",
    watches: "tests/data/watches.csv",
    alerts: "tests/data/alerts.ndjson",
    late: 0.0,
};
const EDGES: Pair = Pair {
    ticks: "tests/data/edge-ticks.csv",
    watches: "tests/data/edge-watches.csv",
    alerts: "tests/data/edge-alerts.ndjson",
    late: 3.0,
};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A place with a data folder that is not made yet.
fn place() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    (place, folder)
}

impl Pair {
    fn arguments(&self) -> Vec<String> {
        let market = format!("replay={}@max", here(self.ticks).display());
        let watches = here(self.watches).display().to_string();
        ["--market", &market, "--watches", &watches].map(str::to_owned).into()
    }

    fn tick_count(&self) -> u64 {
        fs::read_to_string(here(self.ticks)).unwrap().lines().count() as u64 - 1
    }

    /// The accepted alerts as mails, without their ids.
    fn expected(&self) -> Vec<Mail> {
        let text = fs::read_to_string(here(self.alerts)).unwrap();
        let mut mails: Vec<_> = text.lines().map(expected_mail).collect();
        mails.sort();
        mails
    }

    async fn serve(&self, folder: &Path, more: &[&str]) -> Serve {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Serve::start(folder, &[&arguments, more].concat()).await
    }
}

fn expected_mail(line: &str) -> Mail {
    let alert: serde_json::Value = serde_json::from_str(line).unwrap();
    let field = |name: &str| alert[name].as_str().unwrap().to_owned();
    Mail {
        alert: String::new(),
        time: field("time"),
        email: field("email"),
        symbol: field("symbol"),
        condition: field("condition"),
        price: field("price"),
        threshold: field("threshold"),
    }
}

/// The mails of a folder without their ids.
fn told(folder: &Path) -> Vec<Mail> {
    let mut told = mails(folder);
    told.iter_mut().for_each(|mail| mail.alert.clear());
    told.sort();
    told
}

/// When each file of mail was written.
fn written(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(folder.join("mail")).unwrap().map(|entry| entry.unwrap());
    let modified = |entry: &fs::DirEntry| entry.metadata().unwrap().modified().unwrap();
    let mut written: Vec<_> = entries.map(|entry| (entry.path(), modified(&entry))).collect();
    written.sort();
    written
}

/// The files make exactly the accepted alerts as mails, and a restart tells nothing again.
async fn accepted(pair: &Pair, more: &[&str]) {
    let (_place, folder) = place();
    let serve = pair.serve(&folder, more).await;
    settled(&folder, pair.tick_count()).await;
    assert_eq!(told(&folder), pair.expected());
    assert_eq!(serve.metric("tripline_ticks_late_total"), pair.late);
    assert_eq!(serve.metric("tripline_alerts_total"), pair.expected().len() as f64);
    assert_eq!(serve.page("/readyz").0, 200);
    serve.stop().await;
    let mut store = database(&folder, "store.db").await;
    let counts = "SELECT (SELECT COUNT(*) FROM watches) * 1000000 + COUNT(*) FROM deliveries \
                  WHERE state = 'delivered' AND attempts = 1";
    let (before, mails) = (number(&mut store, counts).await, written(&folder));
    assert_eq!(before % 1_000_000, mails.len() as i64);

    let serve = pair.serve(&folder, more).await;
    settled(&folder, 2 * pair.tick_count()).await;
    assert!(serve.log().contains("this content of --watches was loaded before"));
    assert_eq!(serve.metric("tripline_ticks_late_total"), pair.tick_count() as f64);
    serve.stop().await;
    assert_eq!(number(&mut store, counts).await, before);
    assert_eq!(written(&folder), mails);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirteen_years_of_prices_make_the_accepted_mails() {
    accepted(&STOCKS, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_partitions_makes_no_difference() {
    accepted(&STOCKS, &["--set", "topics.partitions=4"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edges_of_the_rules_make_the_accepted_mails() {
    accepted(&EDGES, &[]).await;
    accepted(&EDGES, &["--set", "topics.partitions=4"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_serves_one_process_and_one_number_of_partitions() {
    let (_place, folder) = place();
    let quiet = ["--market", "none"];
    let first = Serve::start(&folder, &quiet).await;
    let mut second = Serve::launch(&folder, &quiet, &[]);
    let status = second.exit().await;
    eventually("it says that the folder is in use", async || {
        second.log().contains("is in use by another tripline process").then_some(())
    })
    .await;
    assert_eq!(status.code(), Some(1));
    first.stop().await;

    let mut other =
        Serve::launch(&folder, &[&quiet[..], &["--set", "topics.partitions=2"]].concat(), &[]);
    let status = other.exit().await;
    eventually("it names both numbers of partitions", async || {
        let told = "topics.partitions is 2, but the log has 1 partitions of to-alert-system";
        other.log().contains(told).then_some(())
    })
    .await;
    assert_eq!(status.code(), Some(1));
    Serve::start(&folder, &quiet).await.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_pages_are_for_those_who_ask() {
    let (_place, folder) = place();
    for (asked, expected) in [(&[][..], 0), (&["--set", "graph.huge_pages=true"], 1)] {
        let serve = Serve::start(&folder, &[&["--market", "none"], asked].concat()).await;
        let status = fs::read_to_string(format!("/proc/{}/status", serve.id())).unwrap();
        assert!(status.contains(&format!("THP_enabled:\t{expected}")), "{status}");
        serve.stop().await;
    }
}

fn lose_log(folder: &Path) {
    for name in ["log.db", "log.db-wal", "log.db-shm"] {
        let _ = fs::remove_file(folder.join(name));
    }
}

/// Appends records that are no ticks to a log that may not be there yet.
async fn append_noise(folder: &Path, records: usize) {
    let options = SqliteLogOptions::default();
    let log = SqliteLog::open(&folder.join("log.db"), options, Arc::new(SystemClock)).await;
    let log = log.unwrap();
    log.create_topic(TICKS_TOPIC, 1).await.unwrap();
    let record = Record {
        key: Some(Bytes::from_static(b"ZZ")),
        value: Bytes::from_static(b"no tick"),
        headers: Default::default(),
        time: Timestamp::default(),
    };
    log.append(TICKS_TOPIC, Partition(0), vec![record; records]).await.unwrap();
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_stops_the_partition_and_resets_nothing() {
    lost_log(0).await;
}

/// The stored position lies within the new log, and means another record in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_took_the_place_of_the_lost_one_is_not_read() {
    lost_log(50).await;
}

/// Loses the log, begins another with so many records, and checks that it stops what needs it.
async fn lost_log(records: usize) {
    let (_place, folder) = place();
    let serve = EDGES.serve(&folder, &[]).await;
    settled(&folder, EDGES.tick_count()).await;
    serve.stop().await;
    lose_log(&folder);
    let mails = written(&folder);

    if records > 0 {
        append_noise(&folder, records).await;
    }
    // It is not ready and says no address, so that the port has to be known beforehand.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = port.to_string();
    let mut serve = Serve::launch(&folder, &["--market", "none", "--http", &http], &[]);
    let parts = [
        "evaluator of partition 0",
        "partition 0 of to-alert-system stops: the log of to-alert-system was lost or replaced",
        "notifier of partition 0",
        "partition 0 of to-notifier stops",
        "Bring back the log that belongs to this store",
    ];
    eventually("/readyz says what is wrong", async || {
        let (status, body) = page(port, "/readyz")?;
        (status == 503 && parts.iter().all(|part| body.contains(part))).then_some(())
    })
    .await;
    eventually("standard error says it as well", async || {
        let line = "not ready: evaluator of partition 0: partition 0 of to-alert-system stops: ";
        let page = format!("(see http://{port}/readyz)");
        (serve.log().contains(line) && serve.log().contains(&page)).then_some(())
    })
    .await;
    assert!(serve.ended().is_none(), "the others go on");
    serve.stop().await;
    let mut store = database(&folder, "store.db").await;
    let position = "SELECT position FROM partitions WHERE topic = 'to-alert-system'";
    assert_eq!(number(&mut store, position).await, 35);
    assert_eq!(written(&folder), mails);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_does_not_decode_holds_nothing_up() {
    let (_place, folder) = place();
    fs::create_dir(&folder).unwrap();
    append_noise(&folder, 1).await;

    let serve = EDGES.serve(&folder, &[]).await;
    settled(&folder, EDGES.tick_count() + 1).await;
    assert_eq!(told(&folder), EDGES.expected());
    assert_eq!(serve.metric("tripline_dead_records_total"), 1.0);
    assert_eq!(serve.page("/readyz").0, 200);
    serve.stop().await;
    let mut store = database(&folder, "store.db").await;
    let dead = "SELECT COUNT(*) FROM dead_records WHERE topic = 'to-alert-system' AND offset = 0 \
                AND value = CAST('no tick' AS BLOB) AND reason LIKE '%no header%'";
    assert_eq!(number(&mut store, dead).await, 1);
}
