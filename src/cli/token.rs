//! The token of a login: kept in a file that only its owner can read, one for each server.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tonic::transport::Uri;
use uuid::Uuid;

use super::failure::Failure;

/// Holds a token itself, instead of a file.
const TOKEN_VARIABLE: &str = "TRIPLINE_TOKEN";
/// Names the file to keep the token in.
const FILE_VARIABLE: &str = "TRIPLINE_TOKEN_FILE";

/// Where the token of one server is kept.
pub(super) struct TokenFile(PathBuf);

impl TokenFile {
    /// That of `server`: `$XDG_CONFIG_HOME/tripline/tokens/SERVER`, by default in `~/.config`.
    pub(super) fn of(server: &Uri) -> Result<Self, Failure> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        if let Some(file) = set(FILE_VARIABLE) {
            return Ok(Self(file.into()));
        }
        let folder = set("XDG_CONFIG_HOME").map(PathBuf::from);
        let folder = folder.or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")));
        let folder = folder.ok_or_else(|| {
            Failure::failed(
                "expected a folder for the token, found neither HOME nor XDG_CONFIG_HOME",
            )
            .or_next(format!("set {FILE_VARIABLE}"))
        })?;
        Ok(Self(folder.join("tripline").join("tokens").join(file_name(server))))
    }

    /// The token to bear, if there is one.
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        if let Ok(token) = env::var(TOKEN_VARIABLE) {
            return Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty()));
        }
        match fs::read_to_string(&self.0) {
            Ok(token) => Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(self.failure("read", &cause)),
        }
    }

    /// Keeps a token. At no time is there half a file, or one that others can read.
    pub(super) fn write(&self, token: &str) -> Result<(), Failure> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let temporary = folder.join(format!(".{}", Uuid::new_v4()));
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            writeln!(file, "{token}")?;
            file.sync_all()?;
            fs::rename(&temporary, &self.0)
        };
        write().map_err(|cause| {
            // It may not exist, and is of no use.
            let _ = fs::remove_file(&temporary);
            self.failure("write", &cause)
        })
    }

    /// Forgets the token.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.0) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(self.failure("remove", &cause))
            }
            _ => Ok(()),
        }
    }

    fn failure(&self, what: &str, cause: &io::Error) -> Failure {
        let file = self.0.display();
        Failure::failed(format!("{file}: expected to {what} the token, found: {cause}"))
            .or_next(format!("{FILE_VARIABLE} names another file"))
    }
}

/// A file name that no other server has, so that none gets another's token.
fn file_name(server: &Uri) -> String {
    let scheme = server.scheme_str().unwrap_or_default();
    let port = server.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    let host = server.host().unwrap_or_default().to_ascii_lowercase();
    let mut name = format!("{scheme}-");
    for byte in host.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            // Writing to a String does not fail.
            other => drop(write!(name, "%{other:02x}")),
        }
    }
    format!("{name}-{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_file_of_its_own() {
        for (server, name) in [
            ("http://127.0.0.1:50051", "http-127.0.0.1-50051"),
            ("http://Example.com", "http-example.com-80"),
            ("https://example.com/", "https-example.com-443"),
            ("https://[::1]:50051", "https-%5b%3a%3a1%5d-50051"),
        ] {
            assert_eq!(file_name(&server.parse().unwrap()), name);
        }
    }
}
