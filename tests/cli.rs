//! The client commands as processes, against a server of canned answers: what they print, how
//! they end, and what they leave behind.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "cli/server.rs"]
mod server;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use server::{Canned, TOKEN, alert};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// A user with a home, and a server.
struct User {
    home: TempDir,
    canned: Canned,
    addr: SocketAddr,
}

impl User {
    async fn new() -> Self {
        let (canned, addr) = Canned::start().await;
        Self { home: TempDir::new().unwrap(), canned, addr }
    }

    async fn logged_in() -> Self {
        let user = Self::new().await;
        assert_eq!(user.run(&["login", "ann@example.com"], "secret\n").await.code, 0);
        user.canned.state().calls.clear();
        user
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.args(args).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.env("TRIPLINE_SERVER", format!("http://{}", self.addr));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    async fn run(&self, args: &[&str], input: &str) -> Ended {
        end(self.command(args), input).await
    }

    fn token_file(&self) -> PathBuf {
        self.home
            .path()
            .join(format!(".config/tripline/tokens/http-127.0.0.1-{}", self.addr.port()))
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.canned.state().calls)
    }
}

async fn end(mut command: Command, input: &str) -> Ended {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that reads no input may be gone already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn an_account_from_its_beginning_to_its_end() {
    let user = User::new().await;
    let file = user.home.path().join("password");
    fs::write(&file, "from a file\n").unwrap();
    let by_file = ["login", "ann@example.com", "--password-file", "password"];
    for (args, input, call, out) in [
        (
            &["register", "ann@example.com"][..],
            " a b \r\n",
            "register ann@example.com  a b ",
            r#"{"email":"ann@example.com"}"#,
        ),
        (
            &by_file,
            "",
            "login ann@example.com from a file",
            r#"{"email":"ann@example.com","expires":"2000-03-01T14:30:00Z"}"#,
        ),
        (
            &["whoami"],
            "",
            "whoami",
            r#"{"email":"ann@example.com","role":"operator","expires":"2000-03-01T14:30:00Z"}"#,
        ),
        (&["password"], "old\nnew\n", "password old new", r#"{"done":"password"}"#),
        (&["logout"], "", "logout", r#"{"done":"logout"}"#),
    ] {
        let ended = user.run(args, input).await;
        assert_eq!(
            ended,
            Ended { code: 0, out: format!("{out}\n"), err: String::new() },
            "{args:?}"
        );
        assert_eq!(user.calls(), [call]);
    }
    assert!(!user.token_file().exists());
    let user = User::logged_in().await;
    let ended = user.run(&["delete-account"], "secret").await;
    assert_eq!((ended.code, user.calls()), (0, vec!["delete secret".to_owned()]), "{ended:?}");
    assert!(!user.token_file().exists());
}

#[tokio::test]
async fn the_token_is_kept_where_only_its_owner_reads_it() {
    let user = User::logged_in().await;
    let file = user.token_file();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{TOKEN}\n"));
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    // A file that others could read is replaced, not written to.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(user.run(&["login", "ann@example.com"], "secret\n").await.code, 0);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);

    let mut elsewhere = user.command(&["login", "ann@example.com"]);
    elsewhere.env("TRIPLINE_TOKEN_FILE", "here/token");
    assert_eq!(end(elsewhere, "secret\n").await.code, 0);
    assert_eq!(mode(&user.home.path().join("here/token")), 0o600);

    fs::remove_file(&file).unwrap();
    let mut given = user.command(&["whoami"]);
    given.env("TRIPLINE_TOKEN", TOKEN);
    assert_eq!(end(given, "").await.code, 0);
}

#[tokio::test]
async fn answers_are_json_lines_with_numbers_as_the_server_gave_them() {
    let user = User::logged_in().await;
    let watch = r#"{"id":7,"symbol":"AAPL","low":null,"high":"120","policy":"crossing","step":null,"hysteresis":null,"cooldown_s":0,"last_price":"118.50","last_currency":null,"last_time":"2000-03-01T14:30:00Z","last_age_s":AGE,"state":"armed","reason":null,"told":null,"version":2}"#;
    let quote = r#"{"symbol":"AAPL","price":"118.50","currency":null,"time":"2000-03-01T14:30:00Z","age_s":AGE}"#;
    let delivery = r#"{"id":"delivery-17","kind":"delivery","time":"2000-03-01T14:30:00Z","reason":"550 no such user","delivery":{"email":"ann@example.com","attempts":5,"alert":{"id":"7-1-118-above","time":"2000-03-01T14:30:00Z","symbol":"AAPL","condition":"above","price":"118.50","threshold":"110","watch_id":7,"delivery":"delivered"}}}"#;
    let record = r#"{"id":"record-4","kind":"record","time":"2000-03-01T14:30:00Z","reason":"it does not decode","record":{"topic":"ticks","partition":0,"offset":0,"key_hex":"4141504c","value_hex":"00ff"}}"#;
    for (args, lines) in [
        (&["watch", "add", "AAPL", "--high", "120"][..], &[watch][..]),
        (&["watch", "list"], &[watch, watch]),
        (&["watch", "set", "7", "--high", "120", "--no-low"], &[watch]),
        (&["watch", "pause", "7"], &[watch]),
        (&["watch", "resume", "7"], &[watch]),
        (&["watch", "rm", "7"], &[r#"{"removed":7}"#]),
        (&["quote", "AAPL"], &[quote]),
        (&["history", "AAPL", "-n", "2"], &[quote, quote]),
        (&["average", "AAPL"], &[r#"{"symbol":"AAPL","average":"117.00000001","count":3}"#]),
        (&["alerts"], &[]),
        (&["dead-letters", "list"], &[delivery, record]),
        (&["dead-letters", "retry", "record-4"], &[r#"{"retried":"record-4"}"#]),
        (&["reset", "AAPL", "--json"], &[r#"{"reset":"AAPL"}"#]),
    ] {
        let ended = user.run(args, "").await;
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        let out: Vec<_> = ended.out.lines().map(without_age).collect();
        assert_eq!(out, lines, "{args:?}");
        assert!(!ended.err.contains('\u{1b}'), "{ended:?}");
        assert_eq!(
            ended.err.contains("warning: the source"),
            args.get(1) == Some(&"add"),
            "{ended:?}"
        );
    }
}

/// A line with the age, which grows while tests run, replaced.
fn without_age(line: &str) -> String {
    let Some((start, rest)) = line.split_once("age_s\":") else { return line.to_owned() };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{start}age_s\":AGE{rest}")
}

#[tokio::test]
async fn what_is_named_of_a_watch_is_changed_and_the_rest_left() {
    let user = User::logged_in().await;
    user.run(&["watch", "set", "7", "--no-high", "--low", "9.50", "--policy", "once"], "").await;
    let call = user.calls().remove(0);
    for part in [
        "symbol: None",
        "low: Some(\"9.50\")",
        "high: Some(\"\")",
        "policy: Some(Once)",
        "cooldown_seconds: None",
        "paused: None",
    ] {
        assert!(call.contains(part), "{part}: {call}");
    }
}

#[tokio::test]
async fn errors_say_what_to_do_next_and_give_the_status() {
    let user = User::logged_in().await;
    for (args, input, code, err) in [
        (&["quote", "NONE"][..], "", 1, "error: expected a symbol with a price, found NONE\n"),
        (&["quote", "A B"], "", 2, "error: symbol: expected 1 to 32 of A-Z, found \"A B\"\n"),
        (
            &["quote", "DENIED"],
            "",
            1,
            "error: expected an operator, found a user\nnext: on the server's host, `tripline user role EMAIL feeder|operator` gives an account its role\n",
        ),
        (&["quote", "MANY"], "", 1, "error: too many requests\nnext: try again in a while\n"),
        (&["quote", "BROKEN"], "", 1, "error: Internal error\nnext: the server's log says more\n"),
        (
            &["watch", "pause", "8"],
            "",
            1,
            "error: expected one of your watches, found 8\nnext: `tripline watch list` numbers your watches\n",
        ),
        (
            &["dead-letters", "show", "record-9"],
            "",
            1,
            "error: expected a dead letter, found none\nnext: `tripline dead-letters list` names them\n",
        ),
        (&["register", "ann"], "secret\n", 2, "error: email: expected an address, found \"ann\"\n"),
        (
            &["register", "ann@example.com"],
            "",
            2,
            "error: standard input: expected a password, found none\nnext: type it, pipe it in as a line, or name a file that holds it\n",
        ),
        (
            &["login", "ann@example.com", "--password-file", "none"],
            "",
            2,
            "error: none: expected a password, found: No such file or directory (os error 2)\n",
        ),
        (
            &["login", "ann@example.com"],
            "wrong\n",
            1,
            "error: unknown email or wrong password\nnext: check the email and the password; `tripline register EMAIL` creates an account\n",
        ),
        (
            &["quote", "A", "--server", "localhost:1"],
            "",
            2,
            "error: --server: expected http(s)://HOST:PORT, found \"localhost:1\"\n",
        ),
        (
            &["quote", "A", "--ca", "x"],
            "",
            2,
            "error: --ca: expected an https server, found http\n",
        ),
        (
            &["push", "none.csv"],
            "",
            2,
            "error: none.csv: expected a readable file, found: No such file or directory (os error 2)\n",
        ),
    ] {
        let ended = user.run(args, input).await;
        assert_eq!((ended.code, ended.err.as_str()), (code, err), "{args:?}");
        assert_eq!(ended.out, "");
    }
    fs::write(user.token_file(), "another").unwrap();
    let ended = user.run(&["quote", "A"], "").await;
    assert!(ended.err.ends_with("\nnext: run `tripline login EMAIL`\n"), "{ended:?}");
    // A void token is no reason not to log out.
    assert_eq!(user.run(&["logout"], "").await.code, 0);
    let ended = user.run(&["quote", "A"], "").await;
    let expected =
        format!("error: not logged in to http://{}\nnext: run `tripline login EMAIL`\n", user.addr);
    assert_eq!((ended.code, ended.err), (1, expected));
    for args in [
        &["quote"][..],
        &["watch", "add", "A"],
        &["watch", "add", "A", "--low", "1", "--policy", "x"],
        &["nonsense"],
    ] {
        assert_eq!(user.run(args, "").await.code, 2, "{args:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let mut user = User::logged_in().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    user.addr = listener.local_addr().unwrap();
    drop(listener);
    for (args, input) in [
        (&["login", "ann@example.com"][..], "secret\n"),
        (&["alerts", "--follow"], ""),
        (&["push"], "time,symbol,price\n2000-03-01T14:30:00Z,A,1\n"),
    ] {
        let mut command = user.command(args);
        command.env("TRIPLINE_TOKEN", TOKEN);
        let ended = end(command, input).await;
        let expected = format!(
            "error: expected a server at http://{}, found: Connection refused (os error 111)\nnext: is `tripline serve` running? --server URL or TRIPLINE_SERVER names another server\n",
            user.addr
        );
        assert_eq!((ended.code, ended.err), (1, expected), "{args:?}");
    }
}

#[tokio::test]
async fn what_may_go_well_in_a_while_is_repeated_with_the_same_id() {
    let user = User::logged_in().await;
    user.canned.state().request_ids.clear();
    user.canned.state().busy = 2;
    assert_eq!(user.run(&["reset", "AAPL"], "").await.code, 0);
    assert_eq!(user.run(&["reset", "AAPL"], "").await.code, 0);
    let ids = user.canned.state().request_ids.clone();
    assert_eq!(ids.len(), 4);
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    user.canned.state().busy = 100;
    let ended = user.run(&["reset", "AAPL"], "").await;
    let expected = "error: stopping\nnext: the server is busy or stopping: try again\n";
    assert_eq!((ended.code, ended.err.as_str(), user.canned.state().busy), (1, expected, 96));
}

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

#[tokio::test]
async fn shells_get_completions() {
    let user = User::new().await;
    for (shell, part) in
        [("bash", "complete -F"), ("zsh", "#compdef tripline"), ("fish", "complete -c tripline")]
    {
        let ended = user.run(&["completions", shell], "").await;
        assert!(ended.code == 0 && ended.out.contains(part), "{shell}");
        assert!(ended.out.contains("dead-letters"), "{shell}");
    }
}

#[tokio::test]
async fn settings_are_shown_and_checked() {
    let user = User::new().await;
    fs::write(user.home.path().join("tripline.toml"), "[evaluate]\nflush_ms = 20\n").unwrap();
    let ended = user.run(&["config", "show", "--set", "log.format=json"], "").await;
    for line in ["flush_ms = 20  # tripline.toml:2", "format = \"json\"  # flag --set"] {
        assert!(ended.out.lines().any(|found| found == line), "{line}: {ended:?}");
    }
    assert_eq!(user.run(&["config", "check"], "").await.out, "ok\n");
    fs::write(user.home.path().join("bad.toml"), "[evaluate]\nflush = 20\n").unwrap();
    let ended = user.run(&["config", "check", "--config", "bad.toml"], "").await;
    let expected = "error: bad.toml:2: expected the name of an option, found evaluate.flush; the nearest is evaluate.flush_ms\n";
    assert_eq!((ended.code, ended.err.as_str()), (2, expected));
    assert_eq!(user.run(&["config", "show", "--set", "x"], "").await.code, 2);
}
