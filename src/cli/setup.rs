//! What the commands that run the graph make of their settings: logging, source, mailer, watches.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use crate::adapters::clock::{SeededRandom, SystemClock};
use crate::adapters::mailer::{ConsoleMailer, FilesMailer, SmtpMailer, SmtpOptions};
use crate::adapters::market::{Replay, ReplayOptions, Simulated, Speed, Yahoo};
use crate::adapters::otlp::{Otlp, TracingOptions};
use crate::config::{LogFormat, LogOptions, MailOptions, Settings};
use crate::csv_input::{self, Watches};
use crate::metrics::Metrics;
use crate::model::PolicyKind;
use crate::node::{Feed, Import};
use crate::pipeline::clock::Clock;
use crate::pipeline::notify::Mailer;

/// Ticks of a file that are passed on together.
const REPLAY_BATCH_MAX: usize = 1_000;

/// Logs to standard error.
pub(super) fn log(options: &LogOptions) -> Result<(), Failure> {
    let filter: EnvFilter = options
        .filter
        .parse()
        .map_err(|error| Failure::bad_input(format!("log.filter: expected directives: {error}")))?;
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let json = match options.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        builder.json().flatten_event(true).init();
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colours).with_target(false).init();
    }
    Ok(())
}

/// The metrics of this host.
pub(super) fn metrics() -> Metrics {
    Metrics::new(&hostname())
}

/// Traces, if a collector of them is named. To be called within the runtime.
pub(super) fn traces(options: &TracingOptions) -> Result<Option<Otlp>, Failure> {
    Otlp::start(options, &hostname())
        .map_err(|error| Failure::bad_input(format!("tracing.otlp_endpoint: {error}")))
}

fn hostname() -> String {
    hostname::get().map_or("localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Where prices come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    None,
    Simulated,
    Yahoo,
    Replay(PathBuf, Speed),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "simulated" => return Ok(Self::Simulated),
            "yahoo" => return Ok(Self::Yahoo),
            _ => {}
        }
        let file =
            text.strip_prefix("replay=").filter(|file| !file.is_empty()).ok_or_else(|| {
                format!(
                    "expected none, simulated, yahoo or replay=TICKS.csv[@SPEED], found {text:?}"
                )
            })?;
        match file.rsplit_once('@') {
            Some((file, speed)) if !file.is_empty() && !speed.contains('/') => {
                let speed = speed.parse().map_err(|error| format!("{text:?}: {error}"))?;
                Ok(Self::Replay(file.into(), speed))
            }
            _ => Ok(Self::Replay(file.into(), Speed::Multiple(1.0))),
        }
    }
}

/// The feed of the settings' source. To be called within the runtime.
pub(super) fn feed(settings: &mut Settings, metrics: &Metrics) -> Result<Feed, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let bad = |error: String| Failure::bad_input(format!("market.source: {error}"));
    let source: Source = settings.market.source.parse().map_err(bad)?;
    Ok(match source {
        Source::None => Feed::None,
        Source::Yahoo => {
            let random = Arc::new(SeededRandom::from_host());
            let yahoo = Yahoo::new(settings.market.yahoo.clone(), clock, random, metrics.clone());
            Feed::Polled(Arc::new(yahoo.map_err(|error| Failure::bad_input(error.to_string()))?))
        }
        Source::Simulated => {
            let options = settings.market.simulated.clone();
            settings.collect.poll.interval_ms = options.interval_ms;
            let simulated = Simulated::new(options, clock);
            let simulated = simulated.map_err(|error| Failure::bad_input(error.to_string()))?;
            Feed::Polled(Arc::new(simulated))
        }
        Source::Replay(path, speed) => {
            let options = ReplayOptions { path, speed, batch_max: REPLAY_BATCH_MAX };
            let replay = Replay::open(options, clock);
            Feed::Stream(Box::new(replay.map_err(|error| Failure::bad_input(error.to_string()))?))
        }
    })
}

/// The mailer of the settings; `folder` is the data folder.
pub(super) fn mailer(options: &MailOptions, folder: &Path) -> Result<Arc<dyn Mailer>, Failure> {
    let clock = Arc::new(SystemClock);
    Ok(match options.mailer.as_str() {
        "console" => Arc::new(ConsoleMailer::stdout()),
        "files" => {
            let mail = folder.join("mail");
            let files = FilesMailer::new(&mail, clock);
            Arc::new(files.map_err(|error| {
                Failure::failed(format!("mail.mailer: {}: {error}", mail.display()))
            })?)
        }
        text if text.starts_with("smtp://") || text.starts_with("smtps://") => {
            let bad = |error: String| Failure::bad_input(format!("mail.mailer: {error}"));
            let url = options.mailer.parse().map_err(|error| bad(format!("{error}")))?;
            let options = SmtpOptions { url, ..options.smtp.clone() };
            Arc::new(SmtpMailer::new(options, clock).map_err(|error| bad(error.to_string()))?)
        }
        // What was found may be a URL with a typo in it, and a password.
        _ => {
            return Err(Failure::bad_input(
                "mail.mailer: expected console, files, smtp://USER:PASSWORD@HOST:PORT or \
                 smtps://USER:PASSWORD@HOST:PORT, found something else",
            ));
        }
    })
}

/// The users and watches of a file, all valid.
pub(super) fn import(path: &Path) -> Result<Import, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::bad_input(error.to_string());
    let name = path.display().to_string();
    let content =
        std::fs::read(path).map_err(|error| Failure::bad_input(format!("{name}: {error}")))?;
    import_text(&name, &content).map_err(|error| bad(&error))
}

/// The users and watches of a text that messages call `name`.
pub(super) fn import_text(name: &str, content: &[u8]) -> Result<Import, csv_input::ReadError> {
    let watches = Watches::new(name, content, PolicyKind::default())?
        .map(|row| row.map(|row| row.value))
        .collect::<Result<_, _>>()?;
    Ok(Import { content: Sha256::digest(content).into(), watches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_and_files_may_bear_a_speed() {
        let replay = |path: &str, speed| Ok(Source::Replay(path.into(), speed));
        for (text, expected) in [
            ("none", Ok(Source::None)),
            ("yahoo", Ok(Source::Yahoo)),
            ("simulated", Ok(Source::Simulated)),
            ("replay=t.csv", replay("t.csv", Speed::Multiple(1.0))),
            ("replay=t.csv@max", replay("t.csv", Speed::Max)),
            ("replay=a@b/t.csv", replay("a@b/t.csv", Speed::Multiple(1.0))),
            ("replay=a@b/t.csv@60", replay("a@b/t.csv", Speed::Multiple(60.0))),
        ] {
            assert_eq!(text.parse(), expected);
        }
        for (text, part) in [
            ("replay=t.csv@fast", "fast"),
            ("replay=t.csv@0", "0"),
            ("replay=", "expected none, simulated, yahoo or replay=TICKS.csv[@SPEED]"),
            ("yaho", "found \"yaho\""),
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
