//! `tripline replay`: the rules as a pure function of two files, ticks and watches.
//!
//! Watches are read first, then ticks stream through the same engine that serves live ones,
//! and each alert is written as one JSON line. No clock, no store, no network.

mod lines;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::csv_input::{self, FileError, ReadError, Row, Ticks, Watches};
use crate::model::{PolicyKind, UserId, Version, Watch, WatchId, WatchSpec, WatchState};
use crate::pipeline::evaluate::{CurrencyIdx, Effects, Engine, EngineTick, Outcome};
use lines::Lines;

/// What to replay. `-` as one of the files is standard input.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// The file of ticks.
    pub ticks: PathBuf,
    /// The file of watches.
    pub watches: PathBuf,
    /// The policy of watches that name none.
    pub policy: PolicyKind,
    /// Whether malformed lines are named, counted and passed over, or end the run.
    pub skip_invalid: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything was replayed, or the reader of the alerts has gone.
    Done,
    /// The alerts could not be written.
    WriteFailed,
    /// An input is malformed or can't be read.
    BadInput,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Done => 0,
            Status::WriteFailed => 1,
            Status::BadInput => 2,
        })
    }
}

/// Why a run stops before its end.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("expected standard input, -, as one of ticks and watches, found it as both")]
    OneInput,
    #[error(transparent)]
    Input(#[from] ReadError),
    #[error("standard output: expected to write the alerts, found: {0}")]
    Output(#[from] io::Error),
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::Input(error.into())
    }
}

/// Replays `options.ticks` against `options.watches`: alerts to `stdout`, the rest to `stderr`.
///
/// A malformed line ends the run once the alerts of the ticks before it are written.
pub fn run(
    options: &ReplayOptions,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Status {
    let mut notes = Notes { stderr, skip_invalid: options.skip_invalid };
    let (message, status) = match replay(options, stdin, stdout, &mut notes) {
        Ok(()) => return Status::Done,
        // Whoever read the alerts has seen enough, such as `head`.
        Err(Stop::Output(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => {
            return Status::Done;
        }
        Err(stop @ Stop::Output(_)) => (stop.to_string(), Status::WriteFailed),
        Err(stop) => (stop.to_string(), Status::BadInput),
    };
    notes.say(&message);
    status
}

fn replay(
    options: &ReplayOptions,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    notes: &mut Notes<'_>,
) -> Result<(), Stop> {
    let is_stdin = |path: &Path| path.as_os_str() == "-";
    if is_stdin(&options.ticks) && is_stdin(&options.watches) {
        return Err(Stop::OneInput);
    }
    let mut engine = Engine::new();
    let mut effects = Effects::default();
    let mut lines = Lines::new(stdout);

    let file = options.watches.display().to_string();
    let mut skipped = 0;
    for row in Watches::new(&file, source(&options.watches, stdin)?, options.policy)? {
        if let Some((email, spec)) = notes.take(row, &mut skipped)? {
            engine.apply(
                &watch(lines.add(&email, &spec), spec),
                WatchState::default(),
                &mut effects,
            );
        }
    }
    notes.count(&file, skipped, "malformed line skipped", "malformed lines skipped");

    let file = options.ticks.display().to_string();
    let (mut skipped, mut late) = (0, 0);
    let mut fatal = None;
    for row in Ticks::new(&file, source(&options.ticks, stdin)?)? {
        let tick = match notes.take(row, &mut skipped) {
            Ok(Some(tick)) => tick,
            Ok(None) => continue,
            Err(error) => {
                fatal = Some(error);
                break;
            }
        };
        effects.clear();
        let symbol = engine.symbol(tick.symbol);
        let (time, price, currency) = (tick.time, tick.price, CurrencyIdx::NONE);
        match engine.tick(EngineTick { time, price, symbol, currency }, &mut effects) {
            Outcome::Counted => lines.write(time, price, &effects.alerts)?,
            // A file of ticks states no currency, so that none can differ.
            Outcome::Late | Outcome::Currency => late += 1,
        }
    }
    // First the alerts of what was sound, then what is to be said of the rest.
    lines.flush()?;
    notes.count(&file, skipped, "malformed line skipped", "malformed lines skipped");
    notes.count(&file, late, "late or repeated tick", "late or repeated ticks");
    fatal.map_or(Ok(()), |error| Err(error.into()))
}

/// The file of this path, or standard input.
fn source<'a>(path: &Path, stdin: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>, FileError> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(stdin));
    }
    Ok(Box::new(csv_input::open(path)?))
}

fn watch(id: WatchId, spec: WatchSpec) -> Watch {
    Watch {
        id,
        // Alerts are addressed by the watch's row; there are no accounts here.
        user: UserId(0),
        version: Version::FIRST,
        fresh_since: Version::FIRST,
        cooldown_since: Version::FIRST,
        paused: false,
        spec,
    }
}

/// What is said on standard error.
struct Notes<'a> {
    stderr: &'a mut dyn Write,
    skip_invalid: bool,
}

impl Notes<'_> {
    fn say(&mut self, message: &str) {
        // There is no other place to say that standard error is gone.
        let _ = writeln!(self.stderr, "{message}");
    }

    /// The row's value; `None` if it is malformed and such rows are skipped.
    fn take<T>(
        &mut self,
        row: Result<Row<T>, ReadError>,
        skipped: &mut u64,
    ) -> Result<Option<T>, ReadError> {
        match row {
            Ok(row) => Ok(Some(row.value)),
            Err(ReadError::Row(error)) if self.skip_invalid => {
                *skipped += 1;
                self.say(&error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, file: &str, count: u64, one: &str, many: &str) {
        match count {
            0 => {}
            1 => self.say(&format!("{file}: 1 {one}")),
            _ => self.say(&format!("{file}: {count} {many}")),
        }
    }
}
