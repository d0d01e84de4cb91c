//! The command line: what `tripline` can be told, and the command that is run.

mod failure;
mod output;
mod password;
mod replay;
mod serve;
mod settings;
mod setup;

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
    Serve(serve::Serve),
    Replay(replay::Replay),
    Config(settings::ConfigCommand),
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Config(command) => {
            command.run().map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
        }
    }
}
