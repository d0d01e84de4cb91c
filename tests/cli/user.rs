//! A user at a command line: with a home, and a server of canned answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::server::Canned;

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A user with a home, and a server.
pub struct User {
    pub home: TempDir,
    pub canned: Canned,
    pub addr: SocketAddr,
}

impl User {
    pub async fn new() -> Self {
        let (canned, addr) = Canned::start().await;
        Self { home: TempDir::new().unwrap(), canned, addr }
    }

    pub async fn logged_in() -> Self {
        let user = Self::new().await;
        assert_eq!(user.run(&["login", "ann@example.com"], "secret\n").await.code, 0);
        user.canned.state().calls.clear();
        user
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.args(args).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.env("TRIPLINE_SERVER", format!("http://{}", self.addr));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    pub async fn run(&self, args: &[&str], input: &str) -> Ended {
        end(self.command(args), input).await
    }

    pub fn token_file(&self) -> PathBuf {
        self.home
            .path()
            .join(format!(".config/tripline/tokens/http-127.0.0.1-{}", self.addr.port()))
    }

    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.canned.state().calls)
    }
}

pub async fn end(mut command: Command, input: &str) -> Ended {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that reads no input may be gone already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
