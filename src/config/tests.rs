//! Precedence, messages, secrets, and that the defaults list every option.

use std::fs;

use tempfile::TempDir;

use super::*;

fn sources(dir: &TempDir, file: Option<&str>, env: &[(&str, &str)], flags: &[&str]) -> Sources {
    let path = dir.path().join("t.toml");
    fs::write(&path, file.unwrap_or_default()).unwrap();
    let environment = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let flags = flags.iter().map(|flag| {
        let (key, value) = flag.split_once('=').unwrap();
        Flag { name: "--set".into(), key: key.into(), value: value.into() }
    });
    Sources { file: Some(path), environment, flags: flags.collect() }
}

fn shown(file: &str, env: &[(&str, &str)], flags: &[&str], option: &str) -> String {
    let dir = TempDir::new().unwrap();
    let loaded = load(&sources(&dir, Some(file), env, flags)).unwrap();
    let text = loaded.show().replace(&format!("{}/", dir.path().display()), "");
    let (table, name) = option.rsplit_once('.').unwrap();
    let mut lines = text.lines().skip_while(|line| *line != format!("[{table}]")).skip(1);
    lines.find(|line| line.starts_with(&format!("{name} = "))).unwrap().to_owned()
}

#[test]
fn the_higher_source_wins_and_is_named() {
    let file = "[collect.door]\n\nahead_s_max = 1\n";
    let env =
        [("TRIPLINE__COLLECT__DOOR__AHEAD_S_MAX", "2"), ("TRIPLINE_SERVER", "x"), ("OTHER", "")];
    let flags = ["collect.door.ahead_s_max=3", "collect.door.ahead_s_max=4"];
    for (file, env, flags, expected) in [
        ("", &[][..], &[][..], "ahead_s_max = 60  # default"),
        (file, &[], &[], "ahead_s_max = 1  # t.toml:3"),
        (file, &env, &[], "ahead_s_max = 2  # env TRIPLINE__COLLECT__DOOR__AHEAD_S_MAX"),
        (file, &env, &flags, "ahead_s_max = 4  # flag --set"),
    ] {
        assert_eq!(shown(file, env, flags, "collect.door.ahead_s_max"), expected);
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    let dir = TempDir::new().unwrap();
    let flags = ["data.dir=a \"b\"\\\n\u{7f}"];
    let first = load(&sources(&dir, None, &[], &flags)).unwrap();
    let again = load(&sources(&dir, Some(&first.show()), &[], &[])).unwrap();
    assert_eq!(first.settings.data, again.settings.data);
}

#[test]
fn faults_name_the_place_what_was_expected_and_what_was_found() {
    let missing = "/nonexistent/secret";
    for (file, env, flag, expected) in [
        (
            "[evaluate]\nflush_s = 1",
            None,
            None,
            "t.toml:2: expected the name of an option, found evaluate.flush_s; the nearest is evaluate.flush_ms",
        ),
        (
            "ahead_s_max = 1",
            None,
            None,
            "t.toml:1: expected the name of an option, found ahead_s_max; the nearest is collect.door.ahead_s_max",
        ),
        (
            "\n[evaluat]\nflush_ms = 1",
            None,
            None,
            "t.toml:2: expected the name of a table, found evaluat; the nearest is evaluate",
        ),
        (
            "evaluate = 3",
            None,
            None,
            "t.toml:1: evaluate: expected a table, [evaluate], found the number 3",
        ),
        (
            "[evaluate.flush_ms]\na = 1",
            None,
            None,
            "t.toml:1: evaluate.flush_ms: expected a whole number, 0 or more, found a table",
        ),
        (
            "[evaluate]\nflush_ms = \"1\"",
            None,
            None,
            "t.toml:2: evaluate.flush_ms: expected a whole number, 0 or more, found the text \"1\"",
        ),
        (
            "[evaluate]\nflush_ms = -1",
            None,
            None,
            "t.toml:2: evaluate.flush_ms: expected a whole number, 0 or more, found the number -1",
        ),
        (
            "[evaluate]\nflush_ms = 1.5",
            None,
            None,
            "t.toml:2: evaluate.flush_ms: expected a whole number, 0 or more, found the number 1.5",
        ),
        (
            "[log]\nfilter = true",
            None,
            None,
            "t.toml:2: log.filter: expected text in quotes, found true",
        ),
        (
            "[log]\nfilter = [1]",
            None,
            None,
            "t.toml:2: log.filter: expected text in quotes, found a list",
        ),
        (
            "[log]\nformat = \"xml\"",
            None,
            None,
            "t.toml:2: log.format: unknown variant `xml`, expected one of `auto`, `text`, `json`",
        ),
        (
            "[log]\nfilter = \"a=b=c\"",
            None,
            None,
            "t.toml:2: log.filter: expected a level or directives, found ",
        ),
        (
            "[topics]\npartitions = 0",
            None,
            None,
            "t.toml:2: topics.partitions: expected 1 to 1024, found 0",
        ),
        (
            "[topics]\npartitions = 9_999_999_999",
            None,
            None,
            "t.toml:2: topics.partitions: invalid value: integer `9999999999`, expected u32",
        ),
        (
            "[broker]\nbatch_bytes_max = 1_000",
            None,
            None,
            "t.toml:2: broker.batch_bytes_max: expected at least 600000, found 1000",
        ),
        ("[log", None, None, "t.toml:1: expected TOML, found: "),
        ("[log]\n[log]\n", None, None, "t.toml:2: expected TOML, found: "),
        (
            "[log]\nfilter_file = 3",
            None,
            None,
            "t.toml:2: log.filter_file: expected the name of a file, in quotes, found the number 3",
        ),
        (
            "",
            Some(("TRIPLINE__EVALUATE__FLUSHMS", "1")),
            None,
            "environment: expected the name of an option, found TRIPLINE__EVALUATE__FLUSHMS; the nearest is TRIPLINE__EVALUATE__FLUSH_MS",
        ),
        (
            "",
            Some(("TRIPLINE__EVALUATE", "1")),
            None,
            "environment: expected the name of an option, found TRIPLINE__EVALUATE; the nearest is TRIPLINE__",
        ),
        (
            "",
            Some(("TRIPLINE__EVALUATE__FLUSH_MS", "1s")),
            None,
            "environment: TRIPLINE__EVALUATE__FLUSH_MS: expected a whole number, 0 or more, found \"1s\"",
        ),
        (
            "",
            Some(("TRIPLINE__LOG__FILTER_FILE", missing)),
            None,
            "environment: log.filter_file: expected a readable file, found \"/nonexistent/secret\": No such file",
        ),
        (
            "",
            Some(("TRIPLINE__LOG__FORMAT", "xml")),
            None,
            "env TRIPLINE__LOG__FORMAT: log.format: unknown variant `xml`, expected one of `auto`, `text`, `json`",
        ),
        (
            r#""log\u001b[2J\nx" = 1"#,
            None,
            None,
            r"t.toml:1: expected the name of an option, found log\u{1b}[2J\nx; the nearest is ",
        ),
        (
            "",
            Some(("TRIPLINE__A\n", "1")),
            None,
            r"environment: expected the name of an option, found TRIPLINE__A\n; the nearest is ",
        ),
        (
            "",
            Some(("TRIPLINE__LOG__FORMAT", "\u{1b}[2J")),
            None,
            r"env TRIPLINE__LOG__FORMAT: log.format: unknown variant `\u{1b}[2J`, expected one of",
        ),
        (
            "",
            None,
            Some("log.fromat=json"),
            "flag --set: expected the name of an option, found log.fromat; the nearest is log.format",
        ),
        (
            "",
            None,
            Some("collect.door.ahead_s_max="),
            "flag --set: collect.door.ahead_s_max: expected a whole number, 0 or more, found \"\"",
        ),
        ("", None, Some("data.dir="), "flag --set: data.dir: expected a folder, found no text"),
    ] {
        let dir = TempDir::new().unwrap();
        let env: Vec<_> = env.into_iter().collect();
        let flags: Vec<_> = flag.into_iter().collect();
        let error = load(&sources(&dir, Some(file), &env, &flags)).unwrap_err().to_string();
        let error = error.replace(&format!("{}/", dir.path().display()), "");
        assert!(error.starts_with(expected), "{file:?}\n found {error}\n expected {expected}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let dir = TempDir::new().unwrap();
    let sources = sources(&dir, Some("a = 1\nb = 2"), &[("TRIPLINE__C", "3")], &["d=4"]);
    assert_eq!(load(&sources).unwrap_err().0.len(), 4);
    let sources = Sources { file: Some(dir.path().join("none")), ..Sources::default() };
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.contains("none: expected a readable file, found: No such file"), "{error}");
}

#[test]
fn text_is_taken_from_a_file_and_not_from_two_places_at_once() {
    let dir = TempDir::new().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, " debug\n\n").unwrap();
    let file = format!("[log]\nfilter_file = {:?}\n", secret.to_str().unwrap());
    assert_eq!(shown(&file, &[], &[], "log.filter"), "filter = \"debug\"  # t.toml:2");
    let env = [("TRIPLINE__LOG__FILTER_FILE", secret.to_str().unwrap())];
    let env_shown = shown("[log]\nfilter = \"warn\"", &env, &[], "log.filter");
    assert_eq!(env_shown, "filter = \"debug\"  # env TRIPLINE__LOG__FILTER_FILE");
    let both = format!("{file}filter = \"info\"\n");
    let error = load(&sources(&dir, Some(&both), &[], &[])).unwrap_err().to_string();
    assert!(
        error.contains("expected one of log.filter and log.filter_file, found both"),
        "{error}"
    );
}

#[test]
fn the_defaults_list_every_option_of_every_struct() {
    let (_, schema) = merge(DEFAULTS, &Sources::default()).unwrap();
    for table in &schema.tables {
        // An unknown option makes serde list those that the struct has.
        let defaults = format!("{DEFAULTS}\n[{table}.zzz]\nzzz = 1\n");
        let (values, schema) = merge(&defaults, &Sources::default()).unwrap();
        let message = typed(&values, &schema).unwrap_err().to_string();
        let (_, expected) = message.split_once(", expected ").unwrap();
        let expected = expected.split(" for key").next().unwrap();
        let options = expected.split('`').skip(1).step_by(2);
        for option in options {
            let path = format!("{table}.{option}");
            let is_listed = !matches!(schema.named(&path), schema::Named::Nothing);
            assert!(is_listed, "config/default.toml lacks {path}");
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_structs() {
    let settings = load(&sources(&TempDir::new().unwrap(), None, &[], &[])).unwrap().settings;
    assert_eq!(settings.broker, Default::default());
    assert_eq!(settings.store, Default::default());
    assert_eq!(settings.cache, Default::default());
    assert_eq!(settings.deliver, Default::default());
    assert_eq!(settings.mail.smtp, Default::default());
    assert_eq!(settings.legacy, Default::default());
    assert_eq!(settings.server, Default::default());
    assert_eq!(settings.tracing, Default::default());
}

#[test]
fn passwords_are_not_shown() {
    let dir = TempDir::new().unwrap();
    for (flag, expected) in [
        ("mail.mailer=console", "mailer = \"console\""),
        ("mail.mailer=files", "mailer = \"files\""),
        (
            "mail.mailer=smtp://ann:secret@localhost:25",
            "mailer = \"smtp://ann:(redacted)@localhost:25\"",
        ),
        (
            "mail.mailer=smtp://ann:se/cret@localhost",
            "mailer = \"smtp://ann:(redacted)@localhost\"",
        ),
        (
            "mail.mailer=smtp://ann:s@e/cret@localhost",
            "mailer = \"smtp://ann:(redacted)@localhost\"",
        ),
        ("mail.mailer=smtp://ann:secret@localhost:none", "mailer = \"(redacted)\""),
        ("mail.mailer=ann:secret@localhost", "mailer = \"(redacted)\""),
        (
            "market.yahoo.base_url=https://ann:se/cret@localhost/x",
            "base_url = \"https://ann:(redacted)@localhost/x\"",
        ),
    ] {
        let loaded = load(&sources(&dir, None, &[], &[flag])).unwrap();
        let line = format!("{expected}  # flag --set");
        assert!(loaded.show().contains(&line), "{flag}: {}", loaded.show());
    }
}
