//! `tripline replay`: its arguments, and the streams of the process that it uses.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::model::PolicyKind;
use crate::replay::{self, ReplayOptions};

/// The names of [`PolicyKind`], the default first.
const POLICIES: [&str; 3] =
    [PolicyKind::Crossing.as_str(), PolicyKind::Step.as_str(), PolicyKind::Once.as_str()];

const EXAMPLE: &str = "\
Example:
  $ cat watches.csv
  email,symbol,low,high,policy,step,hysteresis,cooldown
  ann@example.com,AAPL,,110,crossing,,2,3600
  $ cat ticks.csv
  time,symbol,price
  2000-03-01T14:30:00Z,AAPL,118.56
  $ tripline replay --ticks ticks.csv --watches watches.csv
  {\"time\":\"2000-03-01T14:30:00Z\",\"email\":\"ann@example.com\",\"symbol\":\"AAPL\",\
\"condition\":\"above\",\"price\":\"118.56\",\"threshold\":\"110\"}

Columns come in any order; policy, step, hysteresis and cooldown (in seconds) may be left out.
Standard error names malformed lines as FILE:LINE and counts late and repeated ticks.
Exit status: 0 done, 1 the alerts could not be written, 2 malformed or unreadable input.";

/// Writes the alerts that a file of ticks makes of a file of watches, as JSON lines.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct Replay {
    /// CSV file of ticks, with the columns time, symbol and price; - is standard input.
    #[arg(long, value_name = "FILE")]
    ticks: PathBuf,

    /// CSV file of watches, with the columns email, symbol, low, high and optionally policy,
    /// step, hysteresis and cooldown; - is standard input.
    #[arg(long, value_name = "FILE")]
    watches: PathBuf,

    /// When a standing condition is told again, for watches that name no policy.
    #[arg(
        long,
        default_value = POLICIES[0],
        value_parser = PossibleValuesParser::new(POLICIES).try_map(|name| name.parse::<PolicyKind>()),
    )]
    policy: PolicyKind,

    /// Name and count malformed lines, and go on.
    #[arg(long)]
    skip_invalid: bool,
}

impl Replay {
    pub(super) fn run(self) -> ExitCode {
        let Self { ticks, watches, policy, skip_invalid } = self;
        let options = ReplayOptions { ticks, watches, policy, skip_invalid };
        let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
        replay::run(&options, &mut stdin, &mut stdout, &mut io::stderr()).into()
    }
}
