//! Passwords: from a terminal without echo, from standard input, or from a file. Never from
//! the command line, which other users of the host can read.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;

use super::failure::Failure;

/// A password: from `file` if there is one, else asked for on a terminal, else the next line
/// of standard input.
pub(super) fn read(prompt: &str, file: Option<&Path>) -> Result<String, Failure> {
    let (place, text) = match file {
        Some(file) => (file.display().to_string(), fs::read_to_string(file)),
        None if io::stdin().is_terminal() => {
            ("terminal".to_owned(), rpassword::prompt_password(prompt))
        }
        None => {
            let mut line = String::new();
            ("standard input".to_owned(), io::stdin().read_line(&mut line).map(|_| line))
        }
    };
    let text = text.map_err(|cause| {
        Failure::bad_input(format!("{place}: expected a password, found: {cause}"))
    })?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(Failure::bad_input(format!("{place}: expected a password, found none"))
            .or_next("type it, pipe it in as a line, or name a file that holds it"));
    }
    Ok(password.to_owned())
}

/// A new password: one that is typed blindly is asked for twice.
pub(super) fn read_new(prompt: &str, file: Option<&Path>) -> Result<String, Failure> {
    let password = read(prompt, file)?;
    if file.is_none() && io::stdin().is_terminal() && read("Again: ", None)? != password {
        return Err(Failure::bad_input("expected the same password twice, found two"));
    }
    Ok(password)
}
