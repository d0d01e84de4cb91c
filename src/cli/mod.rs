//! The command line: what `tripline` can be told, and the command that is run.

mod replay;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tells people the moment a price crosses their line: once, and never lost.
#[derive(Debug, Parser)]
#[command(name = "tripline", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(replay::Replay),
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Replay(command) => command.run(),
    }
}
