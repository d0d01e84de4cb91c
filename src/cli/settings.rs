//! `tripline config`, and the flags of every command that has settings.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::print;
use super::setup;
use crate::config::{self, Flag, Loaded, Sources};

const EXAMPLE: &str = "\
Example:
  $ tripline config show --set evaluate.flush_ms=20 | grep flush
  flush_ms = 20  # flag --set
  $ tripline config check --config tripline.toml
  tripline.toml:2: expected the name of an option, found evaluate.flush; the nearest is \
evaluate.flush_ms

An option is taken from the first of: flags, the environment (TRIPLINE__EVALUATE__FLUSH_MS),
tripline.toml, the defaults. Exit status: 0 fine, 2 not.";

const SHOW_EXAMPLE: &str = "\
Example:
  $ tripline config show > tripline.toml";

const CHECK_EXAMPLE: &str = "\
Example:
  $ tripline config check --config /etc/tripline.toml
  ok";

// Where settings come from. (A doc comment would replace that of the command.)
#[derive(Args, Debug)]
pub(super) struct SettingsArgs {
    /// The file of settings; ./tripline.toml if it exists, where none is named.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Sets an option, as in evaluate.flush_ms=20; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = flag)]
    set: Vec<Flag>,
}

impl SettingsArgs {
    /// Reads the settings; `flags` are those of the command itself and win over all.
    pub(super) fn load(self, flags: Vec<Flag>) -> Result<Loaded, Failure> {
        let flags = self.set.into_iter().chain(flags).collect();
        config::load(&Sources::of_process(self.config, flags))
            .map_err(|errors| Failure::bad_input(errors.to_string()))
    }
}

fn flag(text: &str) -> Result<Flag, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE such as evaluate.flush_ms=20, found no =")?;
    Ok(Flag { name: "--set".to_owned(), key: key.to_owned(), value: value.to_owned() })
}

/// Shows and checks the settings.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints every setting and where it comes from, as TOML and without secrets.
    #[command(after_help = SHOW_EXAMPLE)]
    Show(SettingsArgs),
    /// Says whether the settings are valid, and what is wrong with them. Builds what can be built
    /// without the network: the mailer, the source of prices, the log's filter.
    #[command(after_help = CHECK_EXAMPLE)]
    Check(SettingsArgs),
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Show(args) => print(&args.load(Vec::new())?.show()),
            Action::Check(args) => {
                setup::check(&args.load(Vec::new())?.settings)?;
                print("ok\n")
            }
        }
    }
}
