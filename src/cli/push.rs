//! `tripline push`: ticks from a file to the server, as fast as it accepts them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::client::{Client, ClientArgs, RETRIES_MAX, pause};
use super::failure::{Failure, is_transient, note};
use super::output::{Output, printable};
use crate::csv_input::{self, FileError, ReadError, Row, Ticks};
use crate::model::Tick;
use crate::proto::v1::feed_client::FeedClient;
use crate::proto::v1::{PushTicksRequest, PushTicksResponse, TickInput};

/// Batches that are sent and not answered yet.
const IN_FLIGHT_MAX: usize = 8;
/// Rows read ahead, in batches.
const READ_AHEAD: usize = 2;

/// Sends ticks from a CSV file. Needs the role feeder or operator.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  $ cat ticks.csv
  time,symbol,price
  2000-03-01T14:30:00Z,AAPL,118.56
  $ tripline push ticks.csv
  accepted 1 tick, refused 0, skipped 0
  $ price-source | tripline push

Rows that are malformed or refused are named on standard error as FILE:LINE: REASON. An accepted
tick is on disk. Pushing a file again is harmless: a repeated tick changes nothing.
Exit status: 0 all accepted, 1 failed, 2 a row was malformed or refused.")]
pub(super) struct Push {
    /// The file, with the columns time, symbol and price; - is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// How many ticks to send at once: 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Name and count malformed and refused rows, and go on.
    #[arg(long)]
    skip_invalid: bool,
}

type Item = Result<Row<Tick>, ReadError>;

impl Push {
    pub(super) async fn run(self, args: &ClientArgs) -> Result<(), Failure> {
        let client = Client::new(args)?;
        let batch_max = usize::from(self.batch);
        let file = self.file.display().to_string();
        let rows = read(&self.file, &file, batch_max)?;
        let style = ProgressStyle::with_template("{spinner} {human_pos} ticks accepted, {per_sec}");
        let progress = ProgressBar::new_spinner();
        let input = Input {
            rows,
            file,
            batch_max,
            skip_invalid: self.skip_invalid,
            failure: None,
            ended: false,
        };
        let progress =
            progress.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let mut push = Pusher {
            client,
            input,
            unanswered: VecDeque::new(),
            counts: Counts::default(),
            progress,
        };
        let result = push.run().await;
        push.progress.finish_and_clear();
        push.report(result, Output::new(args.json))
    }
}

/// Reads a file on a thread of its own: standard input may wait for ever.
fn read(path: &Path, file: &str, batch_max: usize) -> Result<mpsc::Receiver<Item>, Failure> {
    let unreadable = |error: FileError| Failure::bad_input(error.to_string());
    let input: Box<dyn Read + Send> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let file: File = csv_input::open(path).map_err(unreadable)?;
        Box::new(file)
    };
    let (sender, receiver) = mpsc::channel(batch_max * READ_AHEAD);
    let file = file.to_owned();
    std::thread::spawn(move || {
        let ticks = match Ticks::new(&file, input) {
            Ok(ticks) => ticks,
            // Nobody to send it to is no one to tell.
            Err(error) => return drop(sender.blocking_send(Err(error.into()))),
        };
        for tick in ticks {
            if sender.blocking_send(tick).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Ticks that are sent together, and the lines that they are from.
struct Batch {
    lines: Vec<u64>,
    ticks: Vec<TickInput>,
}

impl Batch {
    fn request(&self) -> PushTicksRequest {
        PushTicksRequest { ticks: self.ticks.clone() }
    }
}

/// What became of the rows.
#[derive(Debug, Default, Serialize)]
struct Counts {
    accepted: u64,
    refused: u64,
    skipped: u64,
}

/// The rows that are still to be sent.
struct Input {
    rows: mpsc::Receiver<Item>,
    file: String,
    batch_max: usize,
    skip_invalid: bool,
    /// Why it ended before its end.
    failure: Option<Failure>,
    ended: bool,
}

impl Input {
    /// The rows that are there, once there are some; `None` at the end. Cancel-safe.
    async fn next(&mut self, counts: &mut Counts, progress: &ProgressBar) -> Option<Batch> {
        let mut items = Vec::new();
        while !self.ended {
            if self.rows.recv_many(&mut items, self.batch_max).await == 0 {
                self.ended = true;
            }
            let mut batch = Batch { lines: Vec::new(), ticks: Vec::new() };
            for item in items.drain(..) {
                match item {
                    Ok(Row { line, value }) => {
                        batch.lines.push(line);
                        batch.ticks.push(tick_input(&value));
                    }
                    Err(ReadError::Row(error)) => {
                        progress.suspend(|| note(&error.to_string()));
                        counts.skipped += 1;
                        if !self.skip_invalid {
                            self.end(
                                Failure::bad_input("a row is malformed; the rest is not sent")
                                    .or_next(
                                        "correct it, or pass over such rows with --skip-invalid",
                                    ),
                            );
                            break;
                        }
                    }
                    Err(ReadError::File(error)) => {
                        self.end(Failure::bad_input(error.to_string()));
                        break;
                    }
                }
            }
            if !batch.ticks.is_empty() {
                return Some(batch);
            }
        }
        None
    }

    fn end(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.ended = true;
    }
}

fn tick_input(tick: &Tick) -> TickInput {
    TickInput {
        symbol: tick.symbol.to_string(),
        time: tick.time.to_string(),
        price: tick.price.to_string(),
        currency: tick.currency.map(|currency| currency.to_string()).unwrap_or_default(),
    }
}

/// Sends batches, over as many connections as it takes.
struct Pusher {
    client: Client,
    input: Input,
    /// Sent, or about to be; sent again after a lost connection, which is harmless.
    unanswered: VecDeque<Batch>,
    counts: Counts,
    progress: ProgressBar,
}

impl Pusher {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut attempt = 0;
        loop {
            if self.unanswered.is_empty() {
                // A connection is made only for something to send.
                match self.input.next(&mut self.counts, &self.progress).await {
                    Some(batch) => self.unanswered.push_back(batch),
                    None => return Ok(()),
                }
            }
            match self.stream(&mut attempt).await {
                Ok(()) => {}
                Err(status) if is_transient(&status) && attempt < RETRIES_MAX => {
                    pause(attempt).await;
                    attempt += 1;
                }
                Err(status) => return Err(self.client.failure(&status)),
            }
        }
    }

    /// One connection, until everything is answered or it is lost.
    async fn stream(&mut self, attempt: &mut u32) -> Result<(), Status> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT_MAX);
        let full = |_| Status::internal("more batches in flight than there is room for");
        for batch in &self.unanswered {
            sender.try_send(batch.request()).map_err(full)?;
        }
        let request = self.client.request(ReceiverStream::new(receiver));
        let mut feed = FeedClient::new(self.client.channel());
        let mut answers = feed.push_ticks(request).await?.into_inner();
        loop {
            let has_room = self.unanswered.len() < IN_FLIGHT_MAX && !self.input.ended;
            tokio::select! {
                answer = answers.message() => {
                    let lost = || Status::unavailable("the server ended the stream");
                    self.settle(&answer?.ok_or_else(lost)?)?;
                    *attempt = 0;
                }
                batch = self.input.next(&mut self.counts, &self.progress), if has_room => {
                    if let Some(batch) = batch {
                        // The server closes the stream if this fails, and says why.
                        let _ = sender.try_send(batch.request());
                        self.unanswered.push_back(batch);
                    }
                }
            }
            if self.input.ended && self.unanswered.is_empty() {
                return Ok(());
            }
        }
    }

    fn settle(&mut self, answer: &PushTicksResponse) -> Result<(), Status> {
        let unasked = || Status::internal("the server answered a batch that was not sent");
        let batch = self.unanswered.pop_front().ok_or_else(unasked)?;
        self.counts.accepted += u64::from(answer.accepted);
        self.counts.refused += answer.refused.len() as u64;
        self.progress.inc(answer.accepted.into());
        self.progress.suspend(|| {
            for refused in &answer.refused {
                let line = batch.lines.get(refused.index as usize).copied().unwrap_or_default();
                note(&format!("{}:{line}: {}", self.input.file, printable(&refused.reason)));
            }
        });
        Ok(())
    }

    fn report(self, result: Result<(), Failure>, output: Output) -> Result<(), Failure> {
        let Counts { accepted, refused, skipped } = self.counts;
        let ticks = if accepted == 1 { "tick" } else { "ticks" };
        let text = format!("accepted {accepted} {ticks}, refused {refused}, skipped {skipped}");
        output.say(&self.counts, &text)?;
        result?;
        match self.input.failure {
            Some(failure) => Err(failure),
            None if refused > 0 && !self.input.skip_invalid => {
                Err(Failure::bad_input("some ticks were refused")
                    .or_next("correct them, or pass over such rows with --skip-invalid"))
            }
            None => Ok(()),
        }
    }
}
