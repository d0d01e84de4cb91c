//! Replayed prices: the ticks of a file, at a multiple of their own time.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::stopwatch::Stopwatch;
use crate::csv_input::{self, FileError, ReadError, Ticks};
use crate::model::{Tick, Timestamp};
use crate::pipeline::clock::Clock;
use crate::pipeline::collect::{MarketError, TickStream};

/// How many batches are read ahead.
const BATCHES_AHEAD: usize = 2;

/// How a file is replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayOptions {
    /// The file: CSV with the columns `time,symbol,price`.
    pub path: PathBuf,
    /// How fast.
    pub speed: Speed,
    /// How many ticks are sent at once; at least 1.
    pub batch_max: usize,
}

/// How fast a file is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// A multiple of the file's own time; greater than zero.
    Multiple(f64),
    /// As fast as it goes.
    Max,
}

/// Why a text is no speed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a speed, max or a number greater than 0 such as 60, found {0:?}")]
pub struct SpeedError(String);

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Self::Multiple(speed)),
            _ => Err(SpeedError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multiple(speed) => speed.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

type Row = Result<Tick, MarketError>;

/// A file that is replayed.
pub struct Replay {
    /// Filled by a thread that reads ahead, and ends when this end is dropped.
    batches: mpsc::Receiver<Vec<Row>>,
    rows: VecDeque<Row>,
    speed: Speed,
    batch_max: usize,
    clock: Arc<dyn Clock>,
    /// When the first tick was sent, and its own time.
    start: Option<(Stopwatch, Timestamp)>,
}

impl Replay {
    /// Opens the file and reads its header. Must be called within a tokio runtime.
    pub fn open(options: ReplayOptions, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        let file = csv_input::open(&options.path)?;
        let ticks = Ticks::new(&options.path.display().to_string(), file)?;
        let batch_max = options.batch_max.max(1);
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        tokio::task::spawn_blocking(move || read_ahead(ticks, batch_max, &sender));
        let (rows, speed) = (VecDeque::new(), options.speed);
        Ok(Self { batches, rows, speed, batch_max, clock, start: None })
    }

    /// How long the tick still has to wait.
    fn wait(&mut self, time: Timestamp) -> Duration {
        let Speed::Multiple(speed) = self.speed else { return Duration::ZERO };
        let (stopwatch, first) =
            self.start.get_or_insert_with(|| (Stopwatch::new(self.clock.clone()), time));
        let due = time.since(*first).as_secs_f64() / speed;
        // Beyond what a duration holds there is no difference between long and longer.
        let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
        due.saturating_sub(stopwatch.elapsed())
    }

    /// Sends what is due of the rows at hand, up to the first that is not.
    fn due(&mut self) -> Due {
        let mut ticks = Vec::new();
        while ticks.len() < self.batch_max {
            if self.rows.is_empty() {
                self.rows.extend(self.batches.try_recv().unwrap_or_default());
            }
            let wait = match self.rows.front() {
                Some(Ok(tick)) => {
                    let (tick, wait) = (*tick, self.wait(tick.time));
                    if wait.is_zero() {
                        self.rows.pop_front();
                        ticks.push(tick);
                        continue;
                    }
                    Due::In(wait)
                }
                Some(Err(error)) => Due::Bad(error.clone()),
                None => Due::NoRows,
            };
            if !ticks.is_empty() {
                break;
            }
            if matches!(wait, Due::Bad(_)) {
                self.rows.pop_front();
            }
            return wait;
        }
        Due::Now(ticks)
    }
}

/// What is to be sent next.
enum Due {
    Now(Vec<Tick>),
    In(Duration),
    Bad(MarketError),
    NoRows,
}

#[async_trait]
impl TickStream for Replay {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>> {
        loop {
            // Nothing is taken from `self` before an await, so that a cancelled call loses none.
            match self.due() {
                Due::Now(ticks) => return Some(Ok(ticks)),
                Due::Bad(error) => return Some(Err(error)),
                Due::In(wait) => self.clock.sleep(wait).await,
                Due::NoRows => self.rows.extend(self.batches.recv().await?),
            }
        }
    }
}

/// Reads the file to its end, as far ahead as there is room.
fn read_ahead(ticks: Ticks<File>, batch_max: usize, sender: &mpsc::Sender<Vec<Row>>) {
    let mut rows = ticks.map(|row| match row {
        Ok(row) => Ok(row.value),
        Err(ReadError::Row(error)) => Err(MarketError::BadRow(error.to_string())),
        Err(ReadError::File(error)) => Err(MarketError::Failed(error.to_string())),
    });
    loop {
        let batch: Vec<Row> = rows.by_ref().take(batch_max).collect();
        if batch.is_empty() || sender.blocking_send(batch).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::adapters::clock::ManualClock;

    fn replay(text: &str, speed: &str, batch_max: usize) -> (Replay, Arc<ManualClock>, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().to_owned();
        let name = path.display().to_string();
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let options = ReplayOptions { path, speed: speed.parse().unwrap(), batch_max };
        (Replay::open(options, clock.clone()).unwrap(), clock, name)
    }

    /// What comes next: the prices of a batch, or the error.
    fn show(next: Option<Result<Vec<Tick>, MarketError>>) -> String {
        match next {
            None => "end".to_owned(),
            Some(Ok(ticks)) => {
                ticks.iter().map(|tick| tick.price.to_string()).collect::<Vec<_>>().join(" ")
            }
            Some(Err(error)) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn ticks_come_at_a_multiple_of_their_own_time() {
        let (mut replay, clock, _) = replay(
            "time,symbol,price\n2000-01-01T00:01:00Z,A,1\n2000-01-01T00:01:00Z,B,2\n\
             2000-01-01T00:00:00Z,A,3\n2000-01-01T00:02:00Z,A,4\n2000-01-01T00:02:00.600Z,A,5\n",
            "60",
            100,
        );
        assert_eq!(show(replay.next().await), "1 2 3", "what is late waits no longer");
        for (millis, expected) in [(999, None), (1, Some("4")), (9, None), (1, Some("5"))] {
            clock.advance(Duration::from_millis(millis));
            let next = futures::poll!(replay.next());
            match expected {
                None => assert!(next.is_pending(), "after {millis} ms more"),
                Some(prices) => assert_eq!(next.map(show), std::task::Poll::Ready(prices.into())),
            }
        }
        assert_eq!(show(replay.next().await), "end");
    }

    #[tokio::test]
    async fn at_most_a_batch_comes_at_once_and_a_bad_row_is_named() {
        let (mut replay, _, name) = replay(
            "time,symbol,price\n2000-01-01T00:01:00Z,A,1\n2030-01-01T00:01:00Z,B,2\n\
             2000-01-01T00:00:00Z,A,3\n2000-01-01T00:02:00Z,A,x\n2000-01-01T00:02:00.600Z,A,5\n",
            "max",
            2,
        );
        let mut found = Vec::new();
        let mut next = String::new();
        while next != "end" {
            next = show(replay.next().await);
            found.push(next.clone());
        }
        let bad = format!("{name}:5: price: expected digits[.digits], such as 101.5, found \"x\"");
        assert_eq!(found, ["1 2", "3", &bad, "5", "end"]);
    }

    #[tokio::test]
    async fn a_speed_and_a_file_that_are_none_are_refused() {
        for text in ["", "0", "-1", "inf", "NaN", "Max", "1x"] {
            let error = text.parse::<Speed>().unwrap_err().to_string();
            assert!(error.contains("max or a number greater than 0"), "{error}");
        }
        assert_eq!("2.5".parse::<Speed>().unwrap().to_string(), "2.5");
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let options =
            ReplayOptions { path: "/no/such/file".into(), speed: Speed::Max, batch_max: 1 };
        let error = Replay::open(options, clock).err().unwrap().to_string();
        assert!(error.starts_with("/no/such/file: expected a readable file"), "{error}");
    }
}
