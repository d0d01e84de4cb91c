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
mod huge_pages;
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

use clap::{Args, Parser, Subcommand};

use client::ClientArgs;
use failure::Failure;

/// Tells people the moment a price crosses their line: once, and never lost.
#[derive(Debug, Parser)]
#[command(name = "tripline", version, arg_required_else_help = true, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// A command that asks a server. (A doc comment would replace that of the command.)
#[derive(Args, Debug)]
struct Asking<T: Args> {
    #[command(flatten)]
    command: T,

    #[command(flatten)]
    client: ClientArgs,
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
    Register(Asking<account::Register>),
    Login(Asking<account::Login>),
    Logout(Asking<account::Logout>),
    Whoami(Asking<account::Whoami>),
    Password(Asking<account::Password>),
    DeleteAccount(Asking<account::DeleteAccount>),

    // Of a user.
    Watch(Asking<watch::WatchCommand>),
    Quote(Asking<prices::Quote>),
    Average(Asking<prices::Average>),
    History(Asking<prices::History>),
    Alerts(Asking<alerts::Alerts>),

    // Of a feeder or an operator.
    Push(Asking<push::Push>),
    DeadLetters(Asking<operator::DeadLetters>),
    Reset(Asking<operator::Reset>),
}

/// Runs the command that the process was given.
pub fn main() -> ExitCode {
    // The allocator asks for them, and most commands need little memory.
    huge_pages::allow(false);
    match Cli::parse().command {
        Command::Demo(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::User(command) => ask(command.run()),
        Command::Mail(command) => ask(command.run()),
        Command::Replay(command) => command.run(),
        Command::Config(command) => ask(async { command.run() }),
        Command::Topics(command) => ask(command.run()),
        Command::Wait(command) => ask(command.run()),
        Command::Health(command) => done(command.run()),
        Command::Completions(command) => done(command.run()),
        Command::Register(Asking { command, client }) => ask(command.run(&client)),
        Command::Login(Asking { command, client }) => ask(command.run(&client)),
        Command::Logout(Asking { command, client }) => ask(command.run(&client)),
        Command::Whoami(Asking { command, client }) => ask(command.run(&client)),
        Command::Password(Asking { command, client }) => ask(command.run(&client)),
        Command::DeleteAccount(Asking { command, client }) => ask(command.run(&client)),
        Command::Watch(Asking { command, client }) => ask(command.run(&client)),
        Command::Quote(Asking { command, client }) => ask(command.run(&client)),
        Command::Average(Asking { command, client }) => ask(command.run(&client)),
        Command::History(Asking { command, client }) => ask(command.run(&client)),
        Command::Alerts(Asking { command, client }) => ask(command.run(&client)),
        Command::Push(Asking { command, client }) => ask(command.run(&client)),
        Command::DeadLetters(Asking { command, client }) => ask(command.run(&client)),
        Command::Reset(Asking { command, client }) => ask(command.run(&client)),
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
    fn only_commands_that_ask_a_server_have_its_options() {
        let mut command = Cli::command();
        command.build();
        let takes = |path: &[&str]| {
            let mut found = &command;
            for name in path {
                found = found.find_subcommand(name).unwrap();
            }
            ["server", "ca", "json"].map(|id| found.get_arguments().any(|a| a.get_id() == id))
        };
        for path in [&["quote"][..], &["watch", "list"], &["dead-letters", "retry"], &["login"]] {
            assert_eq!(takes(path), [true; 3], "{path:?}");
        }
        for path in [&["serve"][..], &["demo"], &["replay"], &["config", "check"], &["user", "add"]]
        {
            assert_eq!(takes(path), [false; 3], "{path:?}");
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_has_an_example() {
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
