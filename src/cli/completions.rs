//! `tripline completions`: what makes a shell complete commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;
use super::failure::Failure;
use super::output::print;

const EXAMPLE: &str = "\
Example:
  $ tripline completions bash > ~/.local/share/bash-completion/completions/tripline
  $ tripline completions zsh > ~/.zfunc/_tripline
  $ tripline completions fish > ~/.config/fish/completions/tripline.fish";

/// Writes the completions of a shell.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "tripline", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
