//! More partitions while callers go on calling: refused as long as processes run, done once they
//! are stopped as the command says.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::fleet::Fleet;

/// Roles through which something new comes in.
fn is_entry(roles: &str) -> bool {
    matches!(roles, "server" | "collector")
}

pub(crate) async fn grow(fleet: &mut Fleet, partitions: u32) {
    let total = partitions.to_string();
    let command = ["topics", "grow", "--yes", "--partitions", &total];
    let refused = fleet.command(&command).args(["--timeout-s", "2"]).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    eprintln!("while all run: {said}");
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("waited 2 s, and still"), "{said}");

    fleet.stop_those(is_entry).await;
    let growing =
        fleet.command(&command).args(["--timeout-s", "120"]).stderr(Stdio::piped()).spawn();
    let mut growing = growing.unwrap();
    let mut lines = BufReader::new(growing.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        eprintln!("{line}");
        said += &line;
        if line.contains("stop all other processes") {
            fleet.stop_those(|_| true).await;
        }
    }
    assert!(growing.wait().await.unwrap().success(), "{said}");
    fleet.start_with(partitions).await;
}
