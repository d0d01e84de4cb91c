//! What every mailer must do, run against each adapter.
#![allow(clippy::unwrap_used)]

#[path = "support/smtp.rs"]
mod smtp;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use smtp::{Script, SmtpServer};
use tripline::adapters::clock::ManualClock;
use tripline::adapters::mailer::{ConsoleMailer, FilesMailer, SmtpMailer, SmtpOptions};
use tripline::model::{Alert, AlertId, Condition, Timestamp, UserId, Version, WatchId};
use tripline::pipeline::notify::{Mail, Mailer, compose};

/// An adapter under test, and what has come out of it so far: one text a mail.
#[async_trait]
trait Outlet: Send + Sync {
    fn mailer(&self) -> Arc<dyn Mailer>;
    async fn mails(&self) -> Vec<String>;
    /// How the identity of a mail is marked in those texts.
    fn identity(&self, message_id: &str) -> String;
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2000-03-01T14:30:01Z".parse().unwrap()))
}

fn mail(watch: u64, symbol: &str, to: &str) -> Mail {
    let id = AlertId {
        watch: WatchId(watch),
        version: Version(1),
        time: Timestamp::from_millis(951_921_000_000).unwrap(),
        condition: Condition::Above,
    };
    let alert = Alert {
        id,
        user: UserId(1),
        symbol: symbol.parse().unwrap(),
        price: "118.56".parse().unwrap(),
        threshold: "110".parse().unwrap(),
    };
    compose(&alert, &to.parse().unwrap())
}

async fn keeps_the_contract(outlet: impl Outlet) {
    let mailer = outlet.mailer();
    takes_a_mail_with_its_plain_lines(&outlet, &*mailer).await;
    bears_the_same_id_when_repeated(&outlet, &*mailer).await;
    takes_a_test_mail(&outlet, &*mailer).await;
    takes_many_at_once(&outlet, mailer).await;
}

async fn takes_a_mail_with_its_plain_lines(outlet: &impl Outlet, mailer: &dyn Mailer) {
    for (watch, symbol, to) in
        [(1, "AAPL", "Ann@example.com"), (2, "M&M.NS", "o'brien+x@example.com")]
    {
        mailer.send(&mail(watch, symbol, to)).await.unwrap();
        let text = outlet.mails().await.pop().unwrap();
        for line in [
            &format!("To: {to}"),
            &format!("Subject: Ticker: {symbol} above 110 at 118.56"),
            &format!("Ticker: {symbol}"),
            "Price: 118.56",
            "Threshold: 110",
            "Condition: above",
            "Time: 2000-03-01T14:30:00Z",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}

async fn bears_the_same_id_when_repeated(outlet: &impl Outlet, mailer: &dyn Mailer) {
    let mail = mail(3, "^GSPC", "ann@example.com");
    mailer.send(&mail).await.unwrap();
    mailer.send(&mail).await.unwrap();
    let identity = outlet.identity(&mail.message_id);
    let mails = outlet.mails().await;
    let repeats = mails.iter().filter(|text| text.contains("Ticker: ^GSPC")).count();
    let same = mails.iter().filter(|text| text.contains(&identity)).count();
    assert!(repeats >= 1 && repeats == same, "{repeats} {same}");
}

async fn takes_a_test_mail(outlet: &impl Outlet, mailer: &dyn Mailer) {
    let test = Mail {
        alert: None,
        subject: "Prüfung: it works".to_owned(),
        text: "Größe\n.\n..two\n".to_owned(),
        message_id: "test-1".to_owned(),
        ..mail(4, "A", "ann@example.com")
    };
    mailer.send(&test).await.unwrap();
    let identity = outlet.identity("test-1");
    assert!(outlet.mails().await.iter().any(|text| text.contains(&identity)));
}

async fn takes_many_at_once(outlet: &impl Outlet, mailer: Arc<dyn Mailer>) {
    let before = outlet.mails().await.len();
    let mut sends = tokio::task::JoinSet::new();
    for watch in 100..150 {
        let mailer = Arc::clone(&mailer);
        let mail = mail(watch, "BTC-USD", &format!("user{watch}@example.com"));
        sends.spawn(async move { mailer.send(&mail).await });
    }
    for sent in sends.join_all().await {
        sent.unwrap();
    }
    let mails = outlet.mails().await;
    assert_eq!(mails.len() - before, 50);
    for watch in 100..150 {
        let to = format!("\nTo: user{watch}@example.com");
        assert_eq!(mails.iter().filter(|text| text.contains(&to)).count(), 1, "{to}");
    }
}

struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Outlet for Console {
    fn mailer(&self) -> Arc<dyn Mailer> {
        Arc::new(ConsoleMailer::new(Self(Arc::clone(&self.0))))
    }

    async fn mails(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.split("--- mail ").skip(1).map(str::to_owned).collect()
    }

    fn identity(&self, message_id: &str) -> String {
        format!("{message_id} ---")
    }
}

struct Files(tempfile::TempDir);

#[async_trait]
impl Outlet for Files {
    fn mailer(&self) -> Arc<dyn Mailer> {
        Arc::new(FilesMailer::new(self.0.path().join("mail"), clock()).unwrap())
    }

    async fn mails(&self) -> Vec<String> {
        let mut paths: Vec<_> = std::fs::read_dir(self.0.path().join("mail"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    fn identity(&self, message_id: &str) -> String {
        format!("\nMessage-ID: <{message_id}@localhost>\n")
    }
}

#[async_trait]
impl Outlet for SmtpServer {
    fn mailer(&self) -> Arc<dyn Mailer> {
        let options = SmtpOptions::new(self.url().parse().unwrap());
        Arc::new(SmtpMailer::new(options, clock()).unwrap())
    }

    async fn mails(&self) -> Vec<String> {
        self.taken().iter().map(|mail| mail.message()).collect()
    }

    fn identity(&self, message_id: &str) -> String {
        format!("\nMessage-ID: <{message_id}@localhost>\r\n")
    }
}

#[tokio::test]
async fn console() {
    keeps_the_contract(Console(Arc::default())).await;
}

#[tokio::test]
async fn files() {
    keeps_the_contract(Files(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn smtp() {
    keeps_the_contract(SmtpServer::start(Script::default()).await).await;
}
