//! Commands that read or write for long: lists, `alerts --follow` and `push`.

use std::fs;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::server::alert;
use crate::user::User;

#[tokio::test]
async fn alerts_are_listed_up_to_a_limit() {
    let user = User::logged_in().await;
    user.canned.state().alerts = (0..5).rev().map(alert).collect();
    for (args, expected) in
        [(&["alerts"][..], 5), (&["alerts", "-n", "3"], 3), (&["alerts", "-n", "0"], 0)]
    {
        assert_eq!(user.run(args, "").await.out.lines().count(), expected);
    }
}

#[tokio::test]
async fn following_prints_each_alert_once_over_lost_connections() {
    let user = User::logged_in().await;
    {
        let mut state = user.canned.state();
        // Made before it began: 0. Then 1 comes; 2 and 3 are made while nobody listens.
        state.alerts = vec![alert(0)];
        state.streams = [vec![], vec![alert(1)], vec![alert(3), alert(4)], vec![alert(4)]].into();
    }
    let mut child = user.command(&["alerts", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut prices = Vec::new();
    while prices.len() < 4 {
        let line = lines.next_line().await.unwrap().unwrap();
        if line.contains("\"1.50\"") {
            user.canned.state().alerts = (0..4).rev().map(alert).collect();
        }
        prices.push(line.split("\"price\":\"").nth(1).unwrap()[..1].to_owned());
    }
    assert_eq!(prices.concat(), "1234");
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn ticks_are_pushed_and_bad_rows_named() {
    let header = "time,symbol,price\n";
    let good = "2000-03-01T14:30:00Z,A,1.50\n";
    let future = "2000-03-01T14:30:00Z,FUTURE,2\n";
    let bad = "2000,A,1\n";
    let malformed =
        "-:3: time: expected an RFC 3339 time such as 2000-03-01T14:30:00Z, found \"2000\"\n";
    for (args, rows, code, out, err, calls) in [
        (&["push"][..], [good, good], 0, (2, 0, 0), "", &["A 1.5", "A 1.5"][..]),
        (&["push"], [good, bad], 2, (1, 0, 1), malformed, &["A 1.5"]),
        (&["push", "--skip-invalid"], [good, bad], 0, (1, 0, 1), malformed, &["A 1.5"]),
        (
            &["push", "--batch", "1"],
            [good, future],
            2,
            (1, 1, 0),
            "-:3: it lies in the future\n",
            &["A 1.5", "FUTURE 2"],
        ),
        (
            &["push", "--skip-invalid"],
            [future, ""],
            0,
            (0, 1, 0),
            "-:2: it lies in the future\n",
            &["FUTURE 2"],
        ),
        (&["push"], ["", ""], 0, (0, 0, 0), "", &[]),
    ] {
        let user = User::logged_in().await;
        let ended = user.run(args, &format!("{header}{}", rows.concat())).await;
        let (accepted, refused, skipped) = out;
        let out =
            format!("{{\"accepted\":{accepted},\"refused\":{refused},\"skipped\":{skipped}}}\n");
        assert_eq!((ended.code, ended.out), (code, out), "{rows:?}: {}", ended.err);
        assert!(ended.err.starts_with(err), "{rows:?}: {}", ended.err);
        let ticks: Vec<_> = user.calls().into_iter().filter(|call| call != "push").collect();
        assert_eq!(ticks, calls);
    }
}

#[tokio::test]
async fn a_push_goes_on_over_a_lost_connection() {
    let user = User::logged_in().await;
    user.canned.state().busy = 2;
    let rows: String = (1..=5_000).map(|n| format!("2000-03-01T14:30:00Z,A,{n}\n")).collect();
    fs::write(user.home.path().join("t.csv"), format!("time,symbol,price\n{rows}")).unwrap();
    let ended = user.run(&["push", "t.csv", "--batch", "100"], "").await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (0, "{\"accepted\":5000,\"refused\":0,\"skipped\":0}\n"),
        "{}",
        ended.err
    );
    let calls = user.calls();
    let ticks: Vec<_> = calls.iter().filter(|call| *call != "push").cloned().collect();
    assert_eq!(ticks, (1..=5_000).map(|n| format!("A {n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let user = User::logged_in().await;
    let mut child = user.command(&["history", "AAPL", "-n", "10000"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
