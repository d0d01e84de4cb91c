//! The real binary as a child: started, asked, stopped, killed; and what it left in its folder.
// Each test that shares this file uses a part of it; the log of a failed one goes to its output.
#![allow(dead_code, clippy::print_stderr)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// How long a test waits for what must come. Generous, because machines are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tripline serve`; killed when it is dropped, and its log shown if the test failed.
pub(crate) struct Serve {
    child: Child,
    folder: PathBuf,
    log: Arc<Mutex<String>>,
    ready: watch::Receiver<Option<(Option<SocketAddr>, SocketAddr)>>,
}

impl Serve {
    /// Starts `tripline serve` over a data folder with these arguments and environment; mails
    /// become files.
    pub(crate) fn launch(folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        Self::launch_with(folder, arguments, env, &["--mailer", "files"])
    }

    /// The same with other arguments in place of the usual mailer.
    pub(crate) fn launch_with(
        folder: &Path,
        arguments: &[&str],
        env: &[(&str, &str)],
        mailer: &[&str],
    ) -> Self {
        let any_port =
            |flag| if arguments.contains(&flag) { vec![] } else { vec![flag, "127.0.0.1:0"] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_tripline"))
            .args(["serve", "--set", "log.format=text", "--data-dir"])
            .arg(folder)
            .args(mailer)
            .args([any_port("--grpc"), any_port("--http")].concat())
            .args(arguments)
            .env_remove("TRIPLINE_FAILPOINT")
            .envs(env.iter().copied())
            // No tripline.toml of the developer's.
            .current_dir(folder.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, ready) = watch::channel(None);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((grpc, http)) =
                    line.strip_prefix("ready ").and_then(|rest| rest.split_once("http="))
                {
                    let grpc = grpc.trim().strip_prefix("grpc=").map(|addr| addr.parse().unwrap());
                    sender.send_replace(Some((grpc, http.parse().unwrap())));
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Self { child, folder: folder.to_owned(), log, ready }
    }

    /// That, once it is ready.
    pub(crate) async fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut serve = Self::launch(folder, arguments, &[]);
        serve.ready().await;
        serve
    }

    /// Waits for the ready line.
    pub(crate) async fn ready(&mut self) {
        let waiting = self.ready.wait_for(Option::is_some);
        let came = tokio::time::timeout(2 * PATIENCE, waiting).await;
        assert!(matches!(came, Ok(Ok(_))), "it never got ready");
    }

    /// Where gRPC is served; `None` until it is ready, and for one that is no server.
    pub(crate) fn grpc(&self) -> Option<SocketAddr> {
        self.ready.borrow().and_then(|(grpc, _)| grpc)
    }

    /// What it has said on standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Status and body of one of its pages.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let http = self.ready.borrow().map(|(_, http)| http);
        page(http.expect("it is ready"), path).expect("a page")
    }

    /// The sum of the series of this name on the metrics page, over their labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.page("/metrics");
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let ours = series == name || series.starts_with(&format!("{name}{{"));
            ours.then(|| value.parse::<f64>().unwrap())
        };
        let values: Vec<f64> = page.lines().filter_map(value).collect();
        assert!(!values.is_empty(), "{name} is missing in\n{page}");
        values.iter().sum()
    }

    /// Kills it, as a power cut would.
    pub(crate) async fn kill(mut self) {
        self.child.start_kill().unwrap();
        let status = self.exit().await;
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Asks it to stop, and waits until it has, with success.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM").await;
        let status = self.exit().await;
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let kill = ["-c", "kill -\"$0\" \"$1\"", name, &id];
        assert!(Command::new("sh").args(kill).status().await.unwrap().success());
    }

    /// Waits until it ends, which must not take long.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.died()).await.expect("it never ended")
    }

    /// Waits until it ends by itself, however long it lives. Cancel-safe.
    pub(crate) async fn died(&mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("== the log of {}\n{}", self.folder.display(), self.log());
        }
    }
}

/// Fetches a page; `None` while nobody serves it.
pub(crate) fn page(http: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(http).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Waits until `look` finds something, and fails with `what` if it never does.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let found = async {
        loop {
            again.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .unwrap_or_else(|_| panic!("waited too long until {what}"))
}

/// A mail of the file mailer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mail {
    pub(crate) alert: String,
    pub(crate) time: String,
    pub(crate) email: String,
    pub(crate) symbol: String,
    pub(crate) condition: String,
    pub(crate) price: String,
    pub(crate) threshold: String,
}

/// The mails of a data folder. Half-written ones do not count.
pub(crate) fn mails(folder: &Path) -> Vec<Mail> {
    let Ok(entries) = std::fs::read_dir(folder.join("mail")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut mails: Vec<_> = paths.filter_map(|path| mail(&path)).collect();
    mails.sort();
    mails
}

fn mail(path: &Path) -> Option<Mail> {
    let alert = path.file_name()?.to_str()?.strip_suffix(".eml")?.to_owned();
    Some(Mail::read(alert, &std::fs::read_to_string(path).unwrap()))
}

impl Mail {
    /// A message of which the alert's id is known.
    pub(crate) fn read(alert: String, text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).to_owned()
        };
        Self {
            alert,
            time: field("Time"),
            email: field("To"),
            symbol: field("Ticker"),
            condition: field("Condition"),
            price: field("Price"),
            threshold: field("Threshold"),
        }
    }

    /// A message as it went over the wire; its id is that of its alert.
    pub(crate) fn of_message(text: &str) -> Self {
        let id =
            text.lines().find_map(|line| line.strip_prefix("Message-ID: <")?.split('@').next());
        Self::read(id.unwrap_or_else(|| panic!("no message id in\n{text}")).to_owned(), text)
    }
}

/// One of a folder's SQLite files, to be looked into while its owner runs or after.
pub(crate) async fn database(folder: &Path, name: &str) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join(name));
    options.busy_timeout(PATIENCE).pragma("query_only", "ON").connect().await.unwrap()
}

/// The first column of the first row, a number.
pub(crate) async fn number(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

/// Waits until all that was accepted is evaluated and everything told has ended somewhere; the
/// log holds at least `records` ticks then.
pub(crate) async fn settled(folder: &Path, records: u64) {
    let mut store = database(folder, "store.db").await;
    let mut log = database(folder, "log.db").await;
    eventually("everything is evaluated and delivered", async || {
        let end = number(
            &mut log,
            "SELECT COALESCE(SUM(b.records), 0) FROM batch b JOIN partition p \
             ON p.id = b.partition WHERE p.topic = 'to-alert-system'",
        )
        .await;
        // One statement sees one instant.
        let row = sqlx::query(
            "SELECT (SELECT COALESCE(SUM(position), 0) FROM partitions \
                     WHERE topic = 'to-alert-system'), \
                    (SELECT COUNT(*) FROM changes) \
             + (SELECT COUNT(*) FROM deliveries WHERE state IN ('pending', 'claimed')) \
             + (SELECT COUNT(*) FROM alerts WHERE id NOT IN (SELECT alert_id FROM deliveries))",
        )
        .fetch_one(&mut store)
        .await
        .unwrap();
        let (read, open): (i64, i64) = (row.get(0), row.get(1));
        (end.cast_unsigned() >= records && read == end && open == 0).then_some(())
    })
    .await;
}
