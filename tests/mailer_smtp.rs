//! The SMTP mailer against a server that refuses, falls silent, closes and encrypts.
#![allow(clippy::unwrap_used)]

#[path = "support/smtp.rs"]
mod smtp;

use std::sync::Arc;
use std::time::Duration;

use smtp::{Act, Script, SmtpServer};
use tripline::adapters::clock::ManualClock;
use tripline::adapters::mailer::{SmtpMailer, SmtpOptions, TlsPolicy};
use tripline::model::Timestamp;
use tripline::pipeline::notify::{Mail, MailError, Mailer};

fn mail(to: &str) -> Mail {
    Mail {
        alert: None,
        to: to.parse().unwrap(),
        subject: "Ticker: AAPL above 110 at 118.56".to_owned(),
        text: "Ticker: AAPL\n.\n..two\n.three\n".to_owned(),
        html: "<p>AAPL</p>\n".to_owned(),
        message_id: "17-1-951921000000-above".to_owned(),
    }
}

fn options(url: &str) -> SmtpOptions {
    SmtpOptions { command_timeout_ms: 5_000, ..SmtpOptions::new(url.parse().unwrap()) }
}

fn mailer(options: SmtpOptions) -> (SmtpMailer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::default()));
    (SmtpMailer::new(options, Arc::clone(&clock) as _).unwrap(), clock)
}

/// `kind: text`, to compare with what is expected of it.
fn told(result: Result<(), MailError>) -> String {
    match result {
        Ok(()) => "taken".to_owned(),
        Err(MailError::Transient(text)) => format!("transient: {text}"),
        Err(MailError::Permanent(text)) => format!("permanent: {text}"),
        Err(MailError::Unreachable(text)) => format!("unreachable: {text}"),
    }
}

#[tokio::test]
async fn each_misbehaviour_is_told_apart_and_the_next_mail_goes_through() {
    use Act::{Close, Say, SayAndClose, Silence};
    for (command, act, expected) in [
        ("RCPT", Say("450 4.2.1 later"), "transient: 450 4.2.1 later"),
        ("RCPT", Say("550 5.1.1 no such user"), "permanent: 550 5.1.1 no such user"),
        ("RCPT", Say("251 forwarded"), "taken"),
        ("RCPT", Say("354 what?"), "transient: expected a reply of [250, 251], found 354"),
        ("RCPT", SayAndClose("421 closing"), "unreachable: the server is closing: 421 closing"),
        ("MAIL", Say("451 busy"), "transient: 451 busy"),
        ("MAIL", Say("553 not yours"), "unreachable: the server refused the sender's address: 553"),
        ("MAIL", SayAndClose("421 closing"), "unreachable: the server is closing"),
        ("DATA", Say("451 later"), "transient: 451 later"),
        (".", Say("452 full"), "transient: 452 full"),
        (".", Say("554-spam\r\n554 really"), "permanent: 554 spam"),
        (".", Say("354 go on"), "transient: expected a reply of [250], found 354"),
        (".", Close, "transient: the server closed the connection (at the mail, which may have"),
        (".", Silence, "transient: no answer within 500 ms (at the mail, which may have been"),
        ("DATA", Silence, "transient: no answer within 500 ms (at the mail, which may have been"),
        ("RCPT", Silence, "transient: no answer within 500 ms (at RCPT TO)"),
        ("MAIL", Silence, "unreachable: no answer within 500 ms (at MAIL FROM)"),
        ("EHLO", Silence, "unreachable: no answer within 500 ms (at the greeting)"),
        ("CONNECT", Silence, "unreachable: no answer within 500 ms (at the greeting)"),
        ("CONNECT", Say("421 too many"), "unreachable: the server is closing: 421 too many"),
        ("CONNECT", Say("554 no service"), "unreachable: the server refused the greeting: 554"),
        ("CONNECT", Close, "unreachable: the server closed the connection (at the greeting)"),
        ("CONNECT", Say("HTTP/1.1 400 what?"), "unreachable: "),
        ("EHLO", Say("502 what?"), "unreachable: the server refused the greeting: 502"),
    ] {
        let silent = matches!(act, Silence);
        let place = format!("{command} {act:?}");
        let acts = vec![(command, act)];
        let server = SmtpServer::start(Script { acts, ..Script::default() }).await;
        let mut options = options(&server.url());
        if silent {
            options.command_timeout_ms = 500;
        }
        let (mailer, _) = mailer(options);
        let found = told(mailer.send(&mail("ann@example.com")).await);
        assert!(found.starts_with(expected), "{place}: {found}");
        let next = told(mailer.send(&mail("bob@example.com")).await);
        assert_eq!(next, "taken", "{place}");
        let taken = server.taken();
        assert_eq!(taken.last().unwrap().to, "bob@example.com", "{place}");
    }
}

#[tokio::test]
async fn a_message_arrives_as_it_was_written() {
    let server = SmtpServer::start(Script::default()).await;
    let (mailer, _) = mailer(options(&server.url()));
    let subject = "Ticker: Größe ✓ above 110".to_owned();
    mailer.send(&Mail { subject, ..mail("ann@example.com") }).await.unwrap();
    let taken = server.taken().remove(0);
    assert!(taken.raw.is_ascii());
    assert!(taken.raw.contains("\r\n..\r\n...two\r\n..three\r\n"), "{}", taken.raw);
    let message = taken.message();
    assert!(message.contains("\r\nTicker: AAPL\r\n.\r\n..two\r\n.three\r\n"), "{message}");
    assert!(message.contains("Subject: Ticker: =?utf-8?b?"), "{message}");
    assert!(message.contains("\r\nMessage-ID: <17-1-951921000000-above@localhost>\r\n"));
}

#[tokio::test]
async fn one_connection_is_reused_until_it_is_idle_spent_or_gone() {
    let server = SmtpServer::start(Script::default()).await;
    let limits =
        SmtpOptions { idle_s: 30, messages_per_connection_max: 3, ..options(&server.url()) };
    let (mailer, clock) = mailer(limits);
    let mut connections = Vec::new();
    for wait_s in [0, 0, 29, 0, 31, 0] {
        clock.advance(Duration::from_secs(wait_s));
        mailer.send(&mail("ann@example.com")).await.unwrap();
        connections.push(server.taken().last().unwrap().connection);
    }
    assert_eq!(connections, [1, 1, 1, 2, 3, 3]);
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_nothing() {
    for act in [Act::Close, Act::SayAndClose("421 idle for too long"), Act::Say("451 enough")] {
        let server = SmtpServer::start(Script::default()).await;
        let (mailer, _) = mailer(options(&server.url()));
        mailer.send(&mail("ann@example.com")).await.unwrap();
        server.act("MAIL", act.clone());
        mailer.send(&mail("bob@example.com")).await.unwrap();
        let taken: Vec<_> = server.taken().into_iter().map(|t| (t.connection, t.to)).collect();
        assert_eq!(
            taken,
            [(1, "ann@example.com".to_owned()), (2, "bob@example.com".to_owned())],
            "{act:?}"
        );
    }
}

#[tokio::test]
async fn greylisting_of_one_recipient_holds_up_no_other() {
    let acts = vec![("RCPT TO:<grey@", Act::Say("450 4.7.1 greylisted"))];
    let server = SmtpServer::start(Script { acts, ..Script::default() }).await;
    let limits = SmtpOptions { connections_max: 3, ..options(&server.url()) };
    let (mailer, _) = mailer(limits);
    let mailer = Arc::new(mailer);
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..30 {
        let mailer = Arc::clone(&mailer);
        let to = if number == 7 { "grey@x.org".to_owned() } else { format!("u{number}@x.org") };
        sends.spawn(async move { told(mailer.send(&mail(&to)).await) });
    }
    let told_: Vec<String> = sends.join_all().await;
    assert_eq!(told_.iter().filter(|found| *found == "taken").count(), 29, "{told_:?}");
    assert!(told_.contains(&"transient: 450 4.7.1 greylisted".to_owned()), "{told_:?}");
    assert!(server.open_max() <= 3 && server.connections() <= 3, "bounded, and a refusal keeps it");
    assert_eq!(told(mailer.send(&mail("grey@x.org")).await), "taken", "the second time");
    assert_eq!(server.taken().iter().filter(|taken| taken.to == "grey@x.org").count(), 1);
}

#[tokio::test]
async fn a_silent_recipient_holds_up_no_other() {
    let acts = vec![("RCPT TO:<slow@", Act::Silence)];
    let server = SmtpServer::start(Script { acts, ..Script::default() }).await;
    let limits =
        SmtpOptions { connections_max: 2, total_timeout_ms: 5_000, ..options(&server.url()) };
    let (mailer, _) = mailer(limits);
    let mailer = Arc::new(mailer);
    let slow = Arc::clone(&mailer);
    let slow = tokio::spawn(async move { slow.send(&mail("slow@x.org")).await });
    for _ in 0..20 {
        mailer.send(&mail("fast@x.org")).await.unwrap();
    }
    assert!(!slow.is_finished());
    slow.abort();
}

#[tokio::test]
async fn encryption_and_logins_go_as_the_options_say() {
    use TlsPolicy::{Implicit, None as Plain, Opportunistic, Required};
    let ok = "taken";
    let unknown = "unreachable: the server's certificate is from an unknown authority";
    let name = "unreachable: the server's certificate is for another name";
    let bad = "unreachable: the server refused the user or the password: 535";
    let no_tls = "unreachable: the server does not offer STARTTLS, which is required";
    let login = "unreachable: the server wants a login: 530";
    let host = Some("localhost");
    // The server's certificate and whether it wants TLS at once; ours: policy, trust, login.
    for (certificate, implicit, policy, trusted, user, expected, encrypted) in [
        (None, false, Plain, false, "", ok, false),
        (None, false, Opportunistic, false, "", ok, false),
        (None, false, Required, false, "", no_tls, false),
        (host, false, Plain, false, "", ok, false),
        (host, false, Opportunistic, true, "", ok, true),
        (host, false, Opportunistic, false, "", unknown, false),
        (host, false, Required, true, "ann:right", ok, true),
        (host, false, Required, true, "ann:wrong", bad, true),
        (host, false, Required, true, "-", login, true),
        (host, false, Required, false, "ann:right", unknown, false),
        (Some("other.example"), false, Required, true, "", name, false),
        (host, true, Implicit, true, "ann:right", ok, true),
        (host, true, Implicit, false, "", unknown, false),
        (Some("other.example"), true, Implicit, true, "", name, false),
        // To a loopback address a password may go in the clear.
        (None, false, Opportunistic, false, "ann:right", ok, false),
        (None, false, Opportunistic, false, "ann:wrong", bad, false),
    ] {
        let place = format!("{certificate:?} {implicit} {policy:?} {trusted} {user}");
        let login = (!user.is_empty()).then_some(("ann", "right"));
        let script = Script { certificate, implicit, login, ..Script::default() };
        let server = SmtpServer::start(script).await;
        let dir = tempfile::tempdir().unwrap();
        let user = if user.contains(':') { format!("{user}@") } else { String::new() };
        let scheme = if implicit { "smtps" } else { "smtp" };
        let url = format!("{scheme}://{user}localhost:{}", server.port);
        let (mailer, _) = mailer(SmtpOptions {
            tls: Some(policy),
            root_ca_file: trusted.then(|| server.root_ca_file(&dir)),
            ..options(&url)
        });
        let found = told(mailer.send(&mail("ann@example.com")).await);
        assert!(found.starts_with(expected), "{place}: {found}");
        if expected == ok {
            assert_eq!(server.taken()[0].encrypted, encrypted, "{place}");
        } else {
            assert!(server.taken().is_empty(), "{place}");
        }
        let clear = server.commands().iter().any(|command| command.starts_with("AUTH"));
        assert_eq!(clear, user.contains(':') && expected != unknown, "{place}");
    }
}

/// Whoever sits in between could put words into the server's mouth before the encryption.
#[tokio::test]
async fn what_comes_with_the_reply_to_starttls_is_not_trusted() {
    let injected = Act::Say("220 go ahead\r\n250-localhost\r\n250 AUTH PLAIN");
    let acts = vec![("STARTTLS", injected)];
    let script = Script { certificate: Some("localhost"), acts, ..Script::default() };
    let server = SmtpServer::start(script).await;
    let dir = tempfile::tempdir().unwrap();
    let (mailer, _) = mailer(SmtpOptions {
        root_ca_file: Some(server.root_ca_file(&dir)),
        ..options(&format!("smtp://ann:right@localhost:{}", server.port))
    });
    let found = told(mailer.send(&mail("ann@example.com")).await);
    let expected = "unreachable: more than the reply to STARTTLS came in the clear";
    assert!(found.starts_with(expected), "{found}");
    assert!(!server.commands().iter().any(|command| command.starts_with("AUTH")));
}

/// The bound of the whole mail judges by how far it came.
#[tokio::test]
async fn a_mail_sent_too_slowly_in_all_counts_once_the_recipient_was_told() {
    for (command, expected) in [("DATA", "transient: not sent"), ("MAIL", "unreachable: not sent")]
    {
        let acts = vec![(command, Act::Silence)];
        let server = SmtpServer::start(Script { acts, ..Script::default() }).await;
        let limits = SmtpOptions { total_timeout_ms: 300, ..options(&server.url()) };
        let (mailer, _) = mailer(limits);
        let found = told(mailer.send(&mail("ann@example.com")).await);
        assert!(found.starts_with(expected), "{command}: {found}");
    }
}

#[tokio::test]
async fn nobody_listening_and_odd_addresses_are_told_apart() {
    let server = SmtpServer::start(Script::default()).await;
    let (to_server, _) = mailer(options(&server.url()));
    let found = told(to_server.send(&mail("a..b@example.com")).await);
    assert_eq!(found, "permanent: a..b@example.com is no address for SMTP");
    let found = told(to_server.send(&mail("ü@example.com")).await);
    assert!(found.starts_with("permanent: the address is not ASCII"), "{found}");
    let utf8 = SmtpServer::start(Script { utf8: true, ..Script::default() }).await;
    let (to_utf8, _) = mailer(options(&utf8.url()));
    assert_eq!(told(to_utf8.send(&mail("ü@example.com")).await), "taken");

    // A port that was free a moment ago; nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (to_nobody, _) = mailer(options(&format!("smtp://u:secret@127.0.0.1:{free}")));
    let found = told(to_nobody.send(&mail("ann@example.com")).await);
    let expected = format!("unreachable: cannot connect to 127.0.0.1 port {free}: ");
    assert!(found.starts_with(&expected) && !found.contains("secret"), "{found}");
}

#[test]
fn options_that_cannot_work_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let plain = || options("smtp://h");
    for (options, expected) in [
        (SmtpOptions { from: Some("x".into()), ..plain() }, "expected from = "),
        (SmtpOptions { tls: Some(TlsPolicy::None), ..options("smtps://h") }, "smtps://"),
        (SmtpOptions { helo: Some("a\r\nb".into()), ..plain() }, "expected helo"),
        (SmtpOptions { root_ca_file: Some(empty), ..plain() }, "found: no certificate"),
        (SmtpOptions { root_ca_file: Some("/missing".into()), ..plain() }, "/missing"),
        (SmtpOptions { connections_max: 0, ..plain() }, "expected connections_max >= 1"),
    ] {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let error = SmtpMailer::new(options, clock).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
