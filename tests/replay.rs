//! `tripline replay` as its users meet it: the real binary, its output to the byte, its
//! messages and its exit status.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const TICKS: &str = "time,symbol,price\n";
const WATCHES: &str = "email,symbol,low,high\n";
/// One tick that `ANN` is told of, and its alert.
const TICK: &str = "2000-03-01T14:30:00Z,A,11\n";
const ANN: &str = "ann@x.org,A,,10\n";
const ALERT: &str = "{\"time\":\"2000-03-01T14:30:00Z\",\"email\":\"ann@x.org\",\"symbol\":\"A\",\
    \"condition\":\"above\",\"price\":\"11\",\"threshold\":\"10\"}\n";

/// Runs `tripline replay` in `folder`, with `input` as its standard input.
fn replay_in(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tripline"))
        .arg("replay")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A run that ends before it has read everything closes its end; that is no failure here.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Replays `t.csv` and `w.csv` of these contents; gives the exit status and both outputs.
fn replay(ticks: &[u8], watches: &[u8], options: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), ticks).unwrap();
    fs::write(folder.path().join("w.csv"), watches).unwrap();
    let arguments = [&["--ticks", "t.csv", "--watches", "w.csv"], options].concat();
    parts(replay_in(folder.path(), &arguments, b""))
}

fn parts(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Runs `tripline replay` with the project's own files, named from its root.
fn replay_here(arguments: &[&str]) -> (i32, String, String) {
    parts(replay_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments, b""))
}

/// The prices among 11, 11.5, 12, 9, 12.5 of which a watch above 10 is told.
fn told(policy_field: &str, options: &[&str]) -> Vec<String> {
    let prices = ["11", "11.5", "12", "9", "12.5"];
    let ticks: String = (0..)
        .zip(prices)
        .map(|(second, price)| format!("2000-03-01T14:30:0{second}Z,A,{price}\n"))
        .collect();
    let watches = format!("email,symbol,low,high,policy\nann@x.org,A,,10,{policy_field}\n");
    let (status, alerts, notes) =
        replay(format!("{TICKS}{ticks}").as_bytes(), watches.as_bytes(), options);
    assert_eq!((status, notes.as_str()), (0, ""));
    let price =
        |line: &str| line.split("\"price\":\"").nth(1)?.split('"').next().map(str::to_owned);
    alerts.lines().filter_map(price).collect()
}

#[test]
fn thirteen_years_of_prices_make_the_accepted_alerts() {
    let ticks = "data/us-stocks-2000-2013.csv";
    let (status, alerts, notes) =
        replay_here(&["--ticks", ticks, "--watches", "tests/data/watches.csv"]);
    assert!(alerts == include_str!("data/alerts.ndjson"), "other alerts than accepted");
    assert_eq!((status, notes.as_str()), (0, ""));
}

#[test]
fn the_edges_of_the_rules_make_the_accepted_alerts() {
    let ticks = "tests/data/edge-ticks.csv";
    let (status, alerts, notes) =
        replay_here(&["--ticks", ticks, "--watches", "tests/data/edge-watches.csv"]);
    assert_eq!(alerts, include_str!("data/edge-alerts.ndjson"));
    assert_eq!(
        (status, notes.as_str()),
        (0, "tests/data/edge-ticks.csv: 3 late or repeated ticks\n")
    );
}

#[test]
fn the_forms_of_csv_make_no_difference() {
    let ticks = format!("{TICKS}{TICK}");
    let watches = format!("{WATCHES}{ANN}");
    for (ticks, watches) in [
        (ticks.clone(), watches.clone()),
        (format!("\u{feff}{ticks}"), format!("\u{feff}{watches}")),
        (ticks.replace('\n', "\r\n"), watches.replace('\n', "\r\n")),
        (ticks.replace('\n', "\n\n\r\n"), watches.replace('\n', "\r\n\n")),
        (ticks.trim_end().to_owned(), watches.trim_end().to_owned()),
        (
            "price,symbol,time\n\"11.0\",\"a\",2000-03-01T15:30:00.000+01:00\n".to_owned(),
            "high,policy,low,email,symbol\n10.00,,\"\",\"ann@x.org\",a\n".to_owned(),
        ),
    ] {
        let found = replay(ticks.as_bytes(), watches.as_bytes(), &[]);
        assert_eq!(found, (0, ALERT.to_owned(), String::new()), "{ticks:?} {watches:?}");
    }
}

#[test]
fn alerts_of_one_tick_are_in_file_order_with_emails_as_typed() {
    let watches = "email,symbol,low,high\n\"b\"\"\\@X.org\",A,,10\nzoë@x.org,A,,9\nb@x.org,B,,1\n\
        none@x.org,A,,\nann@x.org,A,12,\nann@x.org,A,12,\n";
    let (status, alerts, notes) = replay(
        format!("{TICKS}2000-03-01T14:30:00.050Z,A,11\n").as_bytes(),
        watches.as_bytes(),
        &[],
    );
    let line = |email: &str, condition: &str, threshold: &str| {
        format!(
            "{{\"time\":\"2000-03-01T14:30:00.050Z\",\"email\":\"{email}\",\"symbol\":\"A\",\
             \"condition\":\"{condition}\",\"price\":\"11\",\"threshold\":\"{threshold}\"}}\n"
        )
    };
    let ann = line("ann@x.org", "below", "12");
    let others = line("b\\\"\\\\@X.org", "above", "10") + &line("zoë@x.org", "above", "9");
    assert_eq!((status, alerts, notes.as_str()), (0, others + &ann + &ann, ""));
}

#[test]
fn the_policy_of_the_option_is_that_of_rows_without_one() {
    assert_eq!(told("", &[]), ["11", "12.5"]);
    assert_eq!(told("", &["--policy", "step"]), ["11", "12"]);
    assert_eq!(told("", &["--policy", "once"]), ["11"]);
    assert_eq!(told("once", &["--policy", "step"]), ["11"]);
    assert_eq!(told("step", &["--policy", "once"]), ["11", "12"]);
    let (status, alerts, notes) = replay(b"", b"", &["--policy", "twice"]);
    assert_eq!((status, alerts.as_str()), (2, ""));
    assert!(notes.contains("[possible values: crossing, step, once]"), "{notes}");
}

#[test]
fn a_malformed_line_ends_the_run_after_the_alerts_before_it() {
    let before = "email,symbol,low,high,policy,step,hysteresis,cooldown\nann@x.org,A,,10,,,,\n";
    for (tick, message) in [
        (
            "2000-03-01,A,1\n",
            "t.csv:3: time: expected an RFC 3339 time such as 2000-03-01T14:30:00Z, found \"2000-03-01\"",
        ),
        (
            "\n\r\n2000-03-01T14:30:00.1234Z,A,1\n",
            "t.csv:5: time: expected at most milliseconds (three fractional digits), found \"2000-03-01T14:30:00.1234Z\"",
        ),
        (
            "2000-03-01T14:30:01Z,\"A\nB\",1\n",
            "t.csv:3: symbol: expected 1 to 32 of A-Z 0-9 . - ^ = : _ / &, such as AAPL or BTC-USD, found \"A\\nB\"",
        ),
        (
            "2000-03-01T14:30:01Z,A, 1\n",
            "t.csv:3: price: expected digits[.digits], such as 101.5, found \" 1\"",
        ),
        ("2000-03-01T14:30:01Z,A\n", "t.csv:3: expected 3 fields, as the header has, found 2"),
        (
            "2000-03-01T14:30:01Z,\"A,1\n\n",
            "t.csv:3: expected a closing quote, found the file's end in line 5",
        ),
    ] {
        let ticks = format!("{TICKS}{TICK}{tick}{TICK}");
        // An open quote takes in all that follows, so nothing may.
        let ticks = if tick.contains("\"A,") { format!("{TICKS}{TICK}{tick}") } else { ticks };
        let found = replay(ticks.as_bytes(), before.as_bytes(), &[]);
        assert_eq!(found, (2, ALERT.to_owned(), format!("{message}\n")), "{tick:?}");
    }
    for (watch, message) in [
        (
            "ann,A,,10,,,,",
            "expected an e-mail address (one @, text on both sides, no blanks, at most 254 bytes), found \"ann\"",
        ),
        ("b@x,A,3,2,,,,", "expected low < high, found low 3 and high 2"),
        ("b@x,A,3,2,,,", "expected 8 fields, as the header has, found 7"),
        ("b@x,A,1,2,once,0,,", "step: expected a number greater than 0, found 0"),
        (
            "b@x,A,1,2,once,,-1,",
            "hysteresis: expected digits[.digits], such as 101.5, found \"-1\"",
        ),
        ("b@x,A,1,2,,,,1.5", "cooldown: expected whole seconds, such as 3600, found \"1.5\""),
        ("b@x,A,1,2,ONCE,,,", "policy: expected the policy crossing, step or once, found \"ONCE\""),
    ] {
        let watches = format!("{before}{watch}\n");
        let (status, alerts, notes) = replay(b"not,even,ticks\n", watches.as_bytes(), &[]);
        assert_eq!((status, alerts.as_str()), (2, ""), "{watch:?}");
        assert!(
            notes.starts_with("w.csv:3: ") && notes.ends_with(&format!("{message}\n")),
            "{notes}"
        );
        assert_eq!(notes.lines().count(), 1, "{notes}");
    }
}

#[test]
fn malformed_lines_are_named_counted_and_skipped_on_demand() {
    let ticks = [
        TICKS.as_bytes(),
        b"2000-03-01T14:29:00Z,A,-1\n",
        TICK.as_bytes(),
        b"2000-03-01T14:31:00Z,A\xff,1\nx\n",
        TICK.as_bytes(),
    ];
    let watches = format!("{WATCHES}ann@x.org,A,11,10\n{ANN}");
    let (status, alerts, notes) = replay(&ticks.concat(), watches.as_bytes(), &["--skip-invalid"]);
    assert_eq!((status, alerts.as_str()), (0, ALERT));
    assert_eq!(
        notes,
        "w.csv:2: expected low < high, found low 11 and high 10\n\
         w.csv: 1 malformed line skipped\n\
         t.csv:2: price: expected digits[.digits], such as 101.5, found \"-1\"\n\
         t.csv:4: symbol: expected UTF-8, found the byte 0xff\n\
         t.csv:5: expected 3 fields, as the header has, found 1\n\
         t.csv: 3 malformed lines skipped\n\
         t.csv: 1 late or repeated tick\n"
    );
}

#[test]
fn a_faulty_header_or_file_ends_the_run_even_when_lines_are_skipped() {
    let sound = (format!("{TICKS}{TICK}"), format!("{WATCHES}{ANN}"));
    for (ticks, watches, message) in [
        (
            "time,symbol,prize\n",
            sound.1.as_str(),
            "t.csv:1: expected columns of time, symbol, price, found \"prize\"; the nearest is \"price\"",
        ),
        (
            "time,price,time,symbol\n",
            &sound.1,
            "t.csv:1: expected each column once, found \"time\" twice",
        ),
        ("", &sound.1, "t.csv:1: expected a header, time,symbol,price, found no text"),
        (
            &sound.0,
            "\nemail,symbol,low\n",
            "w.csv:2: expected the columns email, symbol, low, high, found no \"high\"",
        ),
    ] {
        let found = replay(ticks.as_bytes(), watches.as_bytes(), &["--skip-invalid"]);
        assert_eq!(found, (2, String::new(), format!("{message}\n")), "{ticks:?} {watches:?}");
    }
    let watches = "tests/data/watches.csv";
    let (status, alerts, notes) =
        replay_here(&["--ticks", "no.csv", "--watches", watches, "--skip-invalid"]);
    assert_eq!((status, alerts.as_str()), (2, ""));
    assert!(notes.starts_with("no.csv: expected a readable file, found: "), "{notes}");
}

#[test]
fn either_file_but_not_both_is_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), format!("{TICKS}{TICK}")).unwrap();
    fs::write(folder.path().join("w.csv"), format!("{WATCHES}{ANN}")).unwrap();
    let run = |ticks, watches, input: &str| {
        let arguments = ["--ticks", ticks, "--watches", watches];
        parts(replay_in(folder.path(), &arguments, input.as_bytes()))
    };
    let told = (0, ALERT.to_owned(), String::new());
    assert_eq!(run("-", "w.csv", &format!("{TICKS}{TICK}")), told);
    assert_eq!(run("t.csv", "-", &format!("{WATCHES}{ANN}")), told);
    let message = "-:3: expected 3 fields, as the header has, found 1\n".to_owned();
    assert_eq!(run("-", "w.csv", &format!("{TICKS}\nx\n")), (2, String::new(), message));
    let message = "expected standard input, -, as one of ticks and watches, found it as both\n";
    assert_eq!(run("-", "-", ""), (2, String::new(), message.to_owned()));
}

#[test]
fn ticks_that_do_not_count_are_counted_also_before_a_malformed_line() {
    let ticks = format!("{TICKS}{TICK}{TICK}2000-03-01T14:29:59.999Z,A,50\n{TICK}x\n");
    let found = replay(ticks.as_bytes(), format!("{WATCHES}{ANN}").as_bytes(), &[]);
    let notes = "t.csv: 3 late or repeated ticks\n\
        t.csv:6: expected 3 fields, as the header has, found 1\n";
    assert_eq!(found, (2, ALERT.to_owned(), notes.to_owned()));
}

/// Replays the edge files with another standard output; gives the exit status and the messages.
fn edges_into(stdout: impl Into<Stdio>) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tripline"))
        .args(["replay", "--ticks", "tests/data/edge-ticks.csv"])
        .args(["--watches", "tests/data/edge-watches.csv"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(stdout)
        .output()
        .unwrap();
    let (status, _, notes) = parts(output);
    (status, notes)
}

#[test]
fn a_reader_of_the_alerts_that_has_gone_ends_the_run_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(edges_into(writer), (0, String::new()));
}

#[test]
#[cfg(target_os = "linux")]
fn alerts_that_cannot_be_written_are_reported() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (status, notes) = edges_into(full);
    assert_eq!(status, 1);
    assert!(notes.starts_with("standard output: expected to write the alerts, found: "), "{notes}");
}
