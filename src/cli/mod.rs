//! The command line: what `tripline` can be told, and the command that is run.

mod account;
mod alerts;
mod client;
mod completions;
mod demo;
mod failure;
mod files_limit;
mod health;
mod host;
mod operator;
mod output;
mod password;
mod prices;
mod push;
mod replay;
mod serve;
mod settings;
mod setup;
mod token;
mod topics;
mod wait;
mod watch;
mod watch_row;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use client::ClientArgs;
use failure::Failure;

/// Tells people the moment a price crosses their line: once, and never lost.
#[derive(Debug, Parser)]
#[command(name = "tripline", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Cli {
    #[command(flatten)]
    client: ClientArgs,

    #[command(subcommand)]
    command: Command,
}

const EXIT_STATUS: &str = "\
Example:
  $ tripline register ann@example.com
  $ tripline login ann@example.com
  $ tripline watch add AAPL --high 120

Exit status: 0 done, 1 failed, 2 wrong usage or input.";

#[derive(Debug, Subcommand)]
enum Command {
    // Of the host.
    Demo(demo::Demo),
    Serve(serve::Serve),
    User(host::User),
    Mail(host::MailCommand),
    Replay(replay::Replay),
    Config(settings::ConfigCommand),
    Topics(topics::TopicsCommand),
    Wait(wait::Wait),
    Health(health::Health),
    Completions(completions::Completions),

    // Of an account.
    Register(account::Register),
    Login(account::Login),
    Logout(account::Logout),
    Whoami(account::Whoami),
    Password(account::Password),
    DeleteAccount(account::DeleteAccount),

    // Of a user.
    Watch(watch::WatchCommand),
    Quote(prices::Quote),
    Average(prices::Average),
    History(prices::History),
    Alerts(alerts::Alerts),

    // Of a feeder or an operator.
    Push(push::Push),
    DeadLetters(operator::DeadLetters),
    Reset(operator::Reset),
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    let Cli { client, command } = Cli::parse();
    match command {
        Command::Demo(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::User(command) => ask(command.run()),
        Command::Mail(command) => ask(command.run()),
        Command::Replay(command) => command.run(),
        Command::Config(command) => done(command.run()),
        Command::Topics(command) => ask(command.run()),
        Command::Wait(command) => ask(command.run()),
        Command::Health(command) => done(command.run()),
        Command::Completions(command) => done(command.run()),
        Command::Register(command) => ask(command.run(&client)),
        Command::Login(command) => ask(command.run(&client)),
        Command::Logout(command) => ask(command.run(&client)),
        Command::Whoami(command) => ask(command.run(&client)),
        Command::Password(command) => ask(command.run(&client)),
        Command::DeleteAccount(command) => ask(command.run(&client)),
        Command::Watch(command) => ask(command.run(&client)),
        Command::Quote(command) => ask(command.run(&client)),
        Command::Average(command) => ask(command.run(&client)),
        Command::History(command) => ask(command.run(&client)),
        Command::Alerts(command) => ask(command.run(&client)),
        Command::Push(command) => ask(command.run(&client)),
        Command::DeadLetters(command) => ask(command.run(&client)),
        Command::Reset(command) => ask(command.run(&client)),
    }
}

/// Runs a command that asks a server. One thread is enough, and starts soonest.
fn ask(command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => done(runtime.block_on(command)),
        Err(cause) => Failure::failed(format!("expected to start, found: {cause}")).report(),
    }
}

fn done(result: Result<(), Failure>) -> ExitCode {
    result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Checks a command and those below it.
    fn check(command: &clap::Command) {
        let name = command.get_name();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = "Example:\n  $ ";
        let has_example = help.replace("Examples:", "Example:").contains(example);
        assert!(has_example, "{name} has no example");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty(), "{name} does not say what it does");
        for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
            assert!(argument.get_help().is_some(), "{name} {} has no help", argument.get_id());
        }
        command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
    }

    #[test]
    fn every_command_says_what_it_does_and_has_an_example() {
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
