//! `tripline serve`: the graph, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Failure, note};
use super::files_limit;
use super::huge_pages;
use super::settings::SettingsArgs;
use super::setup;
use crate::config::{Flag, Settings};
use crate::node::{DataDir, Embedded, Graph, Import, Process};

const EXAMPLE: &str = "\
Examples:
  $ tripline serve
  Prices from Yahoo Finance, mails on the console, data in ./tripline-data.

  $ tripline serve --data-dir /var/lib/tripline --mailer smtps://ann:secret@mail.example.com:465
  $ tripline serve --watches watches.csv --market replay=ticks.csv@max --mailer files

  $ tripline serve --roles evaluator --kafka kafka-1:9092,kafka-2:9092 \\
      --mysql mysql://tripline:secret@db:3306/tripline
  One process of several that share Kafka and a database; as many as there is work for.

When everything is ready, standard error has `ready grpc=ADDR http=ADDR`. SIGTERM or Ctrl-C stops
it: what was accepted is kept, and goes on at the next start.
Every option of the settings can be given by --set, by the environment or by a file; `tripline
config show` lists them all.";

/// How long sending the last traces may take.
const LAST_TRACES_MAX: Duration = Duration::from_secs(2);

/// Runs Tripline: collects prices, evaluates watches, sends mails, serves the API.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: SettingsArgs,

    /// The folder of all data; made if it is missing. [default: tripline-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Where gRPC listens; port 0 takes a free one. [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDR")]
    grpc: Option<String>,

    /// Where /metrics, /healthz and /readyz are served. [default: 127.0.0.1:9999]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,

    /// The nodes to run: all, or a list of server, collector, evaluator, notifier and admin.
    /// [default: all]
    #[arg(long, value_name = "LIST")]
    roles: Option<String>,

    /// Kafka brokers, of which one must answer: Kafka carries the ticks and the alerts. Needs
    /// --mysql.
    #[arg(long, value_name = "HOST:PORT,...")]
    kafka: Option<String>,

    /// The database that all processes share, mysql://USER:PASSWORD@HOST:PORT/DATABASE. Needs
    /// --kafka.
    #[arg(long, value_name = "URL")]
    mysql: Option<String>,

    /// The request cache that all servers share, redis://HOST:PORT.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// CSV file of users and watches to create first, once per folder and content. These users
    /// cannot log in until an operator sets a password.
    #[arg(long, value_name = "FILE")]
    watches: Option<PathBuf>,

    /// Where prices come from: none, simulated, yahoo, or replay=TICKS.csv[@SPEED] with SPEED a
    /// multiple of the file's own time or max. [default: yahoo]
    #[arg(long, value_name = "SOURCE")]
    market: Option<String>,

    /// Who takes the mails: console, files (DIR/mail/ALERT-ID.eml), or
    /// smtp[s]://USER:PASSWORD@HOST:PORT. [default: console]
    #[arg(long, value_name = "MAILER")]
    mailer: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        self.prepare()
            .and_then(|(settings, import)| {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
                let runtime = runtime.map_err(|error| Failure::failed(error.to_string()))?;
                let result = runtime.block_on(async {
                    let traces = setup::traces(&settings.tracing)?;
                    let result = serve(settings, import).await;
                    if let Some(traces) = traces {
                        traces.stop(LAST_TRACES_MAX).await;
                    }
                    result
                });
                // What still blocks is cut off, as a crash would.
                runtime.shutdown_timeout(Duration::from_secs(1));
                result
            })
            .map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
    }

    fn prepare(self) -> Result<(Settings, Option<Import>), Failure> {
        let flags = [
            ("--data-dir", "data.dir", self.data_dir),
            ("--grpc", "server.grpc.listen", self.grpc),
            ("--http", "server.http.listen", self.http),
            ("--roles", "graph.roles", self.roles),
            ("--market", "market.source", self.market),
            ("--mailer", "mail.mailer", self.mailer),
            ("--kafka", "kafka.bootstrap", self.kafka),
            ("--mysql", "mysql.url", self.mysql),
            ("--redis", "redis.url", self.redis),
        ];
        let flags = flags.into_iter().filter_map(|(name, key, value)| {
            Some(Flag { name: name.to_owned(), key: key.to_owned(), value: value? })
        });
        let settings = self.settings.load(flags.collect())?.settings;
        if let Some(contradiction) = settings.contradiction() {
            return Err(Failure::bad_input(contradiction));
        }
        setup::log(&settings.log)?;
        files_limit::raise(&settings);
        huge_pages::allow(settings.graph.huge_pages);
        let import = self.watches.as_deref().map(setup::import).transpose()?;
        Ok((settings, import))
    }
}

async fn serve(settings: Settings, import: Option<Import>) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    // What it still waits for may be waited for in vain.
    let running = tokio::select! {
        running = start(settings.clone(), import) => running?,
        () = stop.asked() => return Ok(()),
    };
    let graph = running.graph();
    let http = graph.http_addr;
    let stopped = tokio::select! {
        () = graph.ready(|name, why| not_ready(name, why, http)) => false,
        () = stop.asked() => true,
    };
    if !stopped {
        match graph.grpc_addr {
            Some(grpc) => note(&format!("ready grpc={grpc} http={http}")),
            None => note(&format!("ready http={http}")),
        }
        stop.asked().await;
    }
    tracing::info!("stopping");
    let patience = Duration::from_millis(settings.graph.stop_ms_max);
    tokio::select! {
        ended = running.stop(patience) => {
            if !ended {
                let millis = settings.graph.stop_ms_max;
                tracing::warn!("not all had ended within {millis} ms; the rest goes on next time");
            }
            Ok(())
        }
        () = stop.asked() => Err(Failure::failed("stopped at once, because it was asked twice")),
    }
}

/// Says on standard error what keeps the process from getting ready.
pub(super) fn not_ready(name: &str, reason: &str, http: SocketAddr) {
    note(&format!("not ready: {name}: {reason} (see http://{http}/readyz)"));
}

/// A graph in this process, or this process's part of one.
enum Running {
    Embedded(Box<Embedded>),
    Process(Box<Process>),
}

async fn start(mut settings: Settings, import: Option<Import>) -> Result<Running, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::failed(error.to_string());
    let metrics = setup::metrics();
    let feed = setup::feed(&mut settings, &metrics)?;
    if settings.is_embedded() {
        let folder = DataDir::open(&settings.data.dir).map_err(|error| failed(&error))?;
        let mailer = setup::mailer(&settings.mail, folder.path())?;
        let started = Embedded::start(folder, &settings, import, mailer, feed, metrics).await;
        return Ok(Running::Embedded(Box::new(started.map_err(|error| failed(&error))?)));
    }
    let mailer = setup::mailer(&settings.mail, &settings.data.dir)?;
    let started = Process::start(&settings, import, mailer, feed, metrics).await;
    Ok(Running::Process(Box::new(started.map_err(|error| failed(&error))?)))
}

impl Running {
    fn graph(&self) -> &Graph {
        match self {
            Self::Embedded(embedded) => &embedded.graph,
            Self::Process(process) => &process.graph,
        }
    }

    async fn stop(self, patience: Duration) -> bool {
        match self {
            Self::Embedded(embedded) => embedded.stop(patience).await,
            Self::Process(process) => process.stop(patience).await,
        }
    }
}

/// SIGTERM and Ctrl-C.
pub(super) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
