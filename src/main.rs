//! The command `tripline`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tripline::cli::main()
}
