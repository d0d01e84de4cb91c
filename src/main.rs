//! The command `tripline`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Asks for huge pages, with which changes among millions of watches are a quarter faster where
/// they are allowed; and unlike musl's own, it does not make threads wait for each other.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    tripline::cli::main()
}
