//! `tripline topics` on the log of a stopped data folder.

use std::sync::Arc;

use tripline::adapters::broker::sqlite::{SqliteLog, SqliteLogOptions};
use tripline::adapters::clock::SystemClock;
use tripline::node::DataDir;
use tripline::pipeline::broker::Broker as _;
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

use crate::user::{Ended, User};

/// A user with the log of a data folder, in which nothing is yet.
async fn user() -> User {
    let user = User::new().await;
    let folder = DataDir::open(&user.home.path().join("tripline-data")).unwrap();
    let file = folder.path().join("log.db");
    let log = SqliteLog::open(&file, SqliteLogOptions::default(), Arc::new(SystemClock)).await;
    let log = log.unwrap();
    for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
        log.create_topic(topic, 3).await.unwrap();
    }
    log.close().await;
    user
}

const TICKS: &str = r#"{"symbol":"AAPL","time":"2000-03-01T14:30:00Z","price":"118.56"}
{"symbol":"IBM","time":"2000-03-01T14:30:00Z","price":"50","currency":"USD"}

{"symbol":"AAPL","time":"2000-03-01T14:30:01Z","price":"119"}
"#;

fn said(code: i32, out: &str, err: &str) -> Ended {
    Ended { code, out: out.to_owned(), err: err.to_owned() }
}

#[tokio::test]
async fn what_is_produced_is_listed_and_read_again() {
    let user = user().await;
    let ended = user.run(&["topics", "produce", "ticks"], TICKS).await;
    assert_eq!(ended, said(0, "", "appended 3\n"));
    let ended = user.run(&["topics", "list"], "").await;
    let lines = "{\"topic\":\"to-alert-system\",\"partitions\":3,\"records\":3}\n\
                 {\"topic\":\"to-notifier\",\"partitions\":3,\"records\":0}\n";
    assert_eq!(ended, said(0, lines, ""));
    let ended = user.run(&["topics", "describe"], "").await;
    assert_eq!((ended.code, ended.out.lines().count()), (0, 6), "{ended:?}");

    let ticks = user.run(&["topics", "tail", "to-alert-system"], "").await;
    let prices: Vec<_> = ticks.out.lines().filter(|line| line.contains("AAPL")).collect();
    assert!(prices[0].contains(r#""price":"118.56""#) && prices[1].contains(r#""price":"119""#));
    assert_eq!((ticks.code, ticks.out.lines().count()), (0, 3), "{ticks:?}");
    let latest = user.run(&["topics", "tail", "ticks", "--from", "latest"], "").await;
    assert_eq!(latest, said(0, "", ""));

    // What was read can be produced as it is.
    let ended = user.run(&["topics", "produce", "ticks"], &ticks.out).await;
    assert_eq!(ended, said(0, "", "appended 3\n"));
    let line: serde_json::Value = serde_json::from_str(prices[1]).unwrap();
    let partition = line["partition"].to_string();
    let from = ["topics", "tail", "ticks", "--partition", &partition, "--from", "1"];
    let rest = user.run(&from, "").await;
    assert!(rest.out.starts_with(prices[1]), "{rest:?}");
}

#[tokio::test]
async fn a_bad_line_is_named_and_those_before_it_count() {
    let user = user().await;
    let input = format!("{TICKS}{{\"symbol\":\"AAPL\",\"time\":\"now\",\"price\":\"1\"}}\n");
    let ended = user.run(&["topics", "produce", "ticks"], &input).await;
    assert!(ended.err.starts_with("appended 3\nerror: line 5: time: expected"), "{ended:?}");
    assert_eq!(ended.code, 2);
    for (args, code, part) in [
        (&["topics", "tail", "tocks"][..], 2, "expected to-alert-system (or ticks)"),
        (&["topics", "tail", "ticks", "--from", "1"], 2, "expected --partition with it"),
        (&["topics", "tail", "ticks", "--partition", "3"], 2, "has 3 partitions, from 0 on"),
        (&["topics", "list", "--data-dir", "none"], 1, "found none in none"),
    ] {
        let ended = user.run(args, "").await;
        assert_eq!(ended.code, code, "{args:?} {ended:?}");
        assert!(ended.err.contains(part), "{args:?} {ended:?}");
    }
    let _running = DataDir::open(&user.home.path().join("tripline-data")).unwrap();
    let ended = user.run(&["topics", "list"], "").await;
    assert!(ended.err.contains("is in use by another tripline process"), "{ended:?}");
}
