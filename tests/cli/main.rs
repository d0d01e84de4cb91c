//! The client commands as processes, against a server of canned answers: what they print, how
//! they end, and what they leave behind.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/mysql_server.rs"]
mod mysql_server;
mod server;
#[path = "../support/services.rs"]
mod services;
mod streams;
mod topics;
mod user;
mod waits;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use server::TOKEN;
use user::{Ended, User, end};

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
    let price = r#"{"symbol":"AAPL","price":"118.50","currency":null,"time":"2000-03-01T14:30:00Z","age_s":AGE}"#;
    let quote = price.replace('}', r#","market":"closed"}"#);
    let delivery = r#"{"id":"delivery-17","kind":"delivery","time":"2000-03-01T14:30:00Z","reason":"550 no such user","delivery":{"email":"ann@example.com","attempts":5,"alert":{"id":"7-1-118-above","time":"2000-03-01T14:30:00Z","symbol":"AAPL","condition":"above","price":"118.50","threshold":"110","watch_id":7,"delivery":"delivered"}}}"#;
    let record = r#"{"id":"record-4","kind":"record","time":"2000-03-01T14:30:00Z","reason":"it does not decode","record":{"topic":"ticks","partition":0,"offset":0,"key_hex":"4141504c","value_hex":"00ff"}}"#;
    for (args, lines) in [
        (&["watch", "add", "AAPL", "--high", "120"][..], &[watch][..]),
        (&["watch", "list"], &[watch, watch]),
        (&["watch", "set", "7", "--high", "120", "--no-low"], &[watch]),
        (&["watch", "pause", "7"], &[watch]),
        (&["watch", "resume", "7"], &[watch]),
        (&["watch", "rm", "7"], &[r#"{"removed":7}"#]),
        (&["quote", "AAPL"], &[&quote]),
        (&["history", "AAPL", "-n", "2"], &[price, price]),
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
    for (option, expected) in [
        ("mail.mailer=smtp://ann@mail", "mail.mailer: expected smtp://USER:PASSWORD@HOST:PORT"),
        ("mail.mailer=fles", "mail.mailer: expected console, files, smtp://"),
        ("market.source=yaho", "market.source: expected none, simulated, yahoo or replay="),
        ("market.source=replay=none.csv", "market.source: none.csv"),
        ("market.yahoo.base_url=ftp://x", "market.yahoo.base_url: expected a URL such as"),
        ("deliver.lease_ms=1", "deliver: expected attempt_timeout_ms < lease_ms"),
        ("log.filter=a=b=c", "flag --set: log.filter: expected a level or directives"),
    ] {
        let ended = user.run(&["config", "check", "--set", option], "").await;
        assert_eq!(ended.code, 2, "{option}: {ended:?}");
        assert!(ended.err.starts_with(&format!("error: {expected}")), "{option}: {ended:?}");
    }
    let option = "mail.mailer=smtps://ann:secret@mail.example.com";
    assert_eq!(user.run(&["config", "check", "--set", option], "").await.out, "ok\n");
}
