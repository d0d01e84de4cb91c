//! `tripline demo`: thirteen years of real prices through the whole embedded graph, live.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::{Failure, note};
use super::output::print;
use super::serve::{Stop, not_ready};
use super::setup;
use crate::adapters::clock::SystemClock;
use crate::adapters::mailer::FilesMailer;
use crate::adapters::market::{Replay, ReplayOptions, Speed};
use crate::config::{self, Flag, Settings, Sources};
use crate::metrics::{Metrics, Stage};
use crate::model::{Price, Symbol, Tick, Timestamp};
use crate::node::{DataDir, Embedded, Feed, Import};
use crate::pipeline::collect::{MarketError, TickStream};
use crate::pipeline::notify::{Mail, MailError, Mailer};
use crate::server::store::OperatorStore;

/// Open and close of five stocks, March 2000 to March 2013; `data/README.md` names the source.
const TICKS: &str = include_str!("../../data/us-stocks-2000-2013.csv");
const WATCHES: &str = include_str!("../../data/demo-watches.csv");
/// Thirteen years in about twenty seconds.
const SPEED: &str = "20000000";
/// How often the picture is drawn anew, and the end looked for.
const FRAME: Duration = Duration::from_millis(100);
/// How often a line says how far it is where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

const EXAMPLE: &str = "\
Examples:
  $ tripline demo
  $ tripline demo --speed max --data-dir /tmp/try
  $ tripline demo --http 127.0.0.1:9999    (then: curl http://127.0.0.1:9999/metrics)";

/// Replays thirteen years of real prices through everything, and shows the alerts as they are
/// told. Needs no network and no configuration, and leaves nothing but the folder that it names.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct Demo {
    /// How fast: a multiple of the prices' own time, or max.
    #[arg(long, value_name = "N|max", default_value = SPEED)]
    speed: Speed,

    /// An empty or new folder for all data and mails. [default: a new one among the temporary
    /// files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Where gRPC listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    grpc: String,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    http: String,
}

impl Demo {
    pub(super) fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(self.demo()),
            Err(error) => Err(Failure::failed(error.to_string())),
        };
        result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
    }

    async fn demo(self) -> Result<(), Failure> {
        let mut stop = Stop::new()?;
        let folder = new_folder(self.data_dir)?;
        let settings = settings(self.grpc, self.http)?;
        let live = Live::new(folder.path());
        let metrics = setup::metrics();
        let embedded = start(folder, &settings, self.speed, &live, metrics.clone()).await?;
        let (began, http) = (Instant::now(), embedded.graph.http_addr);
        let run = async {
            embedded.graph.ready(|name, why| not_ready(name, why, http)).await;
            live.introduce(&embedded);
            live.show(&embedded, &metrics).await;
        };
        let ended = tokio::select! {
            () = run => true,
            () = stop.asked() => false,
        };
        live.bar.finish_and_clear();
        let took = began.elapsed();
        let patience = Duration::from_millis(settings.graph.stop_ms_max);
        embedded.stop(patience).await;
        live.summary(&metrics, took, ended)
    }
}

/// A folder that is new or empty.
fn new_folder(named: Option<PathBuf>) -> Result<DataDir, Failure> {
    let path = named.unwrap_or_else(|| {
        let name = format!("tripline-demo-{}", uuid::Uuid::now_v7().simple());
        std::env::temp_dir().join(name)
    });
    let in_use = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some());
    if in_use {
        let message = format!("expected an empty or new folder, found files in {}", path.display());
        return Err(Failure::bad_input(message).or_next("name another folder with --data-dir"));
    }
    DataDir::open(&path).map_err(|error| Failure::failed(error.to_string()))
}

/// The defaults, whatever the environment says: the demo is the same everywhere.
fn settings(grpc: String, http: String) -> Result<Settings, Failure> {
    let flag = |name: &str, key: &str, value: String| Flag {
        name: name.to_owned(),
        key: key.to_owned(),
        value,
    };
    let sources = Sources {
        flags: vec![
            flag("--grpc", "server.grpc.listen", grpc),
            flag("--http", "server.http.listen", http),
        ],
        // An empty file in place of one that may lie in the working folder.
        file: Some("/dev/null".into()),
        environment: Vec::new(),
    };
    config::load(&sources)
        .map(|loaded| loaded.settings)
        .map_err(|errors| Failure::bad_input(errors.to_string()))
}

async fn start(
    folder: DataDir,
    settings: &Settings,
    speed: Speed,
    live: &Live,
    metrics: Metrics,
) -> Result<Embedded, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
    let path = folder.path().join("ticks.csv");
    std::fs::write(&path, TICKS).map_err(|error| failed(&error))?;
    let Import { content, watches } = setup::import_text("demo-watches.csv", WATCHES.as_bytes())
        .map_err(|error| failed(&error))?;
    let clock = Arc::new(SystemClock);
    let mailer = FilesMailer::new(folder.path().join("mail"), clock.clone());
    let mailer = Telling { mailer: mailer.map_err(|error| failed(&error))?, live: live.clone() };
    let options = ReplayOptions { path, speed, batch_max: 500 };
    let replay = Replay::open(options, clock).map_err(|error| failed(&error))?;
    let feed = Feed::Stream(Box::new(Seen { ticks: replay, live: live.clone() }));
    let import = Some(Import { content, watches });
    Embedded::start(folder, settings, import, Arc::new(mailer), feed, metrics)
        .await
        .map_err(|error| failed(&error))
}

/// What is seen of the run while it goes on.
#[derive(Clone)]
struct Live {
    folder: PathBuf,
    bar: ProgressBar,
    terminal: bool,
    newest: Arc<Mutex<Newest>>,
}

#[derive(Default)]
struct Newest {
    ticks: u64,
    time: Timestamp,
    prices: BTreeMap<Symbol, Price>,
    mails: BTreeMap<String, u64>,
}

impl Live {
    fn new(folder: &Path) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let rows = TICKS.lines().count() as u64 - 1;
        let bar = ProgressBar::with_draw_target(
            Some(rows),
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        // The template is a constant; a fault in it would leave the default style.
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {pos}/{len} ticks, {elapsed}\n{wide_msg}")
        {
            bar.set_style(style);
        }
        Self { folder: folder.to_owned(), bar, terminal, newest: Arc::default() }
    }

    fn newest<T>(&self, with: impl FnOnce(&mut Newest) -> T) -> T {
        with(&mut self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn introduce(&self, embedded: &Embedded) {
        note(&format!(
            "Replaying 13 years of AAPL, FB, GOOG, IBM and MSFT through the whole graph.\n\
             data and mails  {}\n\
             gRPC            {}\n\
             metrics         http://{}/metrics\n",
            self.folder.display(),
            embedded.graph.grpc_addr.map(|addr| addr.to_string()).unwrap_or_default(),
            embedded.graph.http_addr,
        ));
    }

    fn tell(&self, mail: &Mail) {
        self.newest(|newest| *newest.mails.entry(mail.to.to_string()).or_default() += 1);
        let Some(alert) = mail.alert else { return };
        let what = mail.subject.trim_start_matches("Ticker: ");
        let line = format!("{}  {:<16}  {what}", alert.time, mail.to);
        // Alerts go to standard output; the bar is on standard error and makes room.
        self.bar.suspend(|| drop(print(&format!("{line}\n"))));
    }

    /// Draws until every tick was evaluated and every mail was taken.
    async fn show(&self, embedded: &Embedded, metrics: &Metrics) {
        let mut said = Instant::now();
        loop {
            tokio::time::sleep(FRAME).await;
            let line = self.line(metrics);
            if self.terminal {
                self.bar.set_position(self.newest(|newest| newest.ticks));
                self.bar.set_message(line);
            } else if said.elapsed() >= LINE_EVERY {
                said = Instant::now();
                note(&line);
            }
            if embedded.graph.feed_ended.is_cancelled() && settled(embedded, metrics).await {
                return;
            }
        }
    }

    fn line(&self, metrics: &Metrics) -> String {
        let behind = count(metrics, "collect").saturating_sub(evaluated(metrics));
        self.newest(|newest| {
            let rate = newest.ticks as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            let prices: Vec<_> =
                newest.prices.iter().map(|(symbol, price)| format!("{symbol} {price}")).collect();
            let alerts = metrics.alerts.get();
            let mails: u64 = newest.mails.values().sum();
            format!(
                "{}  {}  {rate:.0} ticks/s, lag {behind}, {alerts} alerts, {mails} mails",
                newest.time.to_string().get(..10).unwrap_or_default(),
                prices.join("  "),
            )
        })
    }

    fn summary(&self, metrics: &Metrics, took: Duration, ended: bool) -> Result<(), Failure> {
        let seconds = took.as_secs_f64();
        let ticks = evaluated(metrics);
        let (alerts, late) = (metrics.alerts.get(), metrics.ticks_late.get());
        let mut text = format!(
            "\n{} {ticks} ticks in {seconds:.1} s ({:.0} a second), {late} late; {alerts} alerts\n",
            if ended { "Done:" } else { "Stopped:" },
            ticks as f64 / seconds.max(0.001),
        );
        let mails = self.newest(|newest| newest.mails.clone());
        for (email, count) in &mails {
            let noun = if *count == 1 { "mail" } else { "mails" };
            text += &format!("  {email:<18} {count:>4} {noun}\n");
        }
        let total: u64 = mails.values().sum();
        text += &format!("{total} mails are in {}\n", self.folder.join("mail").display());
        print(&text)
    }
}

fn count(metrics: &Metrics, stage: &'static str) -> u64 {
    metrics.records_out.get_or_create(&Stage { stage }).get()
}

fn evaluated(metrics: &Metrics) -> u64 {
    metrics.records_in.get_or_create(&Stage { stage: "evaluate" }).get()
}

/// Whether everything that entered has come out at the other end.
async fn settled(embedded: &Embedded, metrics: &Metrics) -> bool {
    let accepted = metrics.records_in.get_or_create(&Stage { stage: "notify" }).get();
    // Not equality: what is passed on after a transient failure may repeat, and is counted so.
    evaluated(metrics) >= count(metrics, "collect")
        && accepted >= metrics.alerts.get()
        && embedded.store.backlog().await.is_ok_and(|backlog| backlog.pending == 0)
}

/// A mailer that shows what it has handed over.
struct Telling {
    mailer: FilesMailer,
    live: Live,
}

#[async_trait]
impl Mailer for Telling {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        self.mailer.send(mail).await?;
        self.live.tell(mail);
        Ok(())
    }
}

/// A stream whose ticks are seen on their way.
struct Seen {
    ticks: Replay,
    live: Live,
}

#[async_trait]
impl TickStream for Seen {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>> {
        let next = self.ticks.next().await;
        if let Some(Ok(ticks)) = &next {
            self.live.newest(|newest| {
                newest.ticks += ticks.len() as u64;
                for tick in ticks {
                    newest.time = tick.time;
                    newest.prices.insert(tick.symbol, tick.price);
                }
            });
        }
        next
    }
}
