//! One scenario on every topology: fused and split, embedded and over the real services, also over
//! TLS. All give the alerts of the slow reference. With `dev/test --full` also while whatever can
//! fail does.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../support/caller.rs"]
mod caller;
#[path = "../support/check.rs"]
mod check;
#[path = "../support/database.rs"]
mod database;
mod faults;
mod fleet;
mod grow;
#[path = "../support/mysql_server.rs"]
mod mysql_server;
mod offsets;
#[path = "../support/process.rs"]
mod process;
mod proxy;
mod scenario;
#[path = "../support/services.rs"]
mod services;
#[path = "../support/smtp.rs"]
mod smtp;
#[path = "../support/story.rs"]
mod story;
#[path = "../support/user.rs"]
mod user;

use std::net::TcpListener;

use faults::Faults;
use fleet::{Fleet, Over, Shape};
use process::{Serve, eventually, page};
use scenario::Plan;
use tokio::sync::RwLock;
use tripline::adapters::clock::SeededRandom;
use tripline::pipeline::clock::Random as _;

const FUSED: [&str; 1] = ["all"];
const SPLIT: [&str; 5] = ["server", "collector", "evaluator", "notifier", "admin"];
const SCALED: [&str; 9] = [
    "server",
    "server",
    "collector",
    "evaluator",
    "evaluator",
    "evaluator",
    "notifier",
    "notifier",
    "admin",
];

/// The seed of what runs without `--full`.
const SEED: u64 = 20_260_105;
const PLAN: Plan = Plan { seed: SEED, batches: 60, users: 3, commands: 25 };

/// Whoever makes processes and services fail has the services alone.
static SERVICES: RwLock<()> = RwLock::const_new(());

/// Runs the scenario where the services for it are, and prints what was checked.
async fn run(shape: Shape, plan: Plan, faults: Option<Faults>) {
    let (_alone, _beside) = match faults {
        Some(_) => (Some(SERVICES.write().await), None),
        None => (None, Some(SERVICES.read().await)),
    };
    let Some(fleet) = Fleet::start(&shape).await else { return };
    let history = scenario::run(fleet, &plan, faults).await;
    eprintln!("{}, seed {}: {history}", shape.name, plan.seed);
}

fn is_full() -> bool {
    let full = std::env::var_os("TRIPLINE_TEST_FULL").is_some();
    if !full {
        eprintln!("not run: only with dev/test --full");
    }
    full
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_waits_for_what_is_not_there_and_says_so() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (http, nobody) = (free(), free());
    let place = tempfile::tempdir().unwrap();
    let (kafka, mysql) = (nobody.to_string(), format!("mysql://u:hunter2@{nobody}/d"));
    let http_flag = http.to_string();
    let flags =
        ["--kafka", &kafka, "--mysql", &mysql, "--http", &http_flag, "--roles", "evaluator"];
    let serve = Serve::launch_with(&place.path().join("data"), &flags, &[], &[]);
    let body = eventually("it says what it waits for", async || {
        let (status, body) = page(http, "/readyz")?;
        (status == 503 && body.contains("mysql")).then_some(body)
    })
    .await;
    assert!(!body.contains("hunter2"), "{body}");
    assert_eq!(page(http, "/healthz").unwrap().0, 200);
    serve.stop().await;
}

#[test]
fn half_of_the_services_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let key = "server.fingerprint_key";
    let both = ["--kafka", "127.0.0.1:1", "--mysql", "mysql://u:p@127.0.0.1:1/d"];
    for (flags, part) in [
        (&both[..2], "mysql.url: expected kafka.bootstrap and mysql.url or neither"),
        (&both[2..], "kafka.bootstrap: expected"),
        (&["--redis", "redis://127.0.0.1:1"], "redis.url: expected kafka.bootstrap"),
        // All servers must share it, so it cannot be made up.
        (&both[..], key),
    ] {
        let serve = std::process::Command::new(env!("CARGO_BIN_EXE_tripline"))
            .args(["serve", "--market", "none", "--http", "127.0.0.1:0"])
            .args(flags)
            .current_dir(place.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&serve.stderr);
        assert!(!serve.status.success() && said.contains(part), "{flags:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fused_embedded() {
    let shape = Shape { name: "fused, embedded", roles: &FUSED, partitions: 3, over: Over::Folder };
    run(shape, PLAN, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fused_over_services() {
    if is_full() {
        let shape = Shape {
            name: "fused over services",
            roles: &FUSED,
            partitions: 3,
            over: Over::Services,
        };
        run(shape, PLAN, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_one_process_a_node() {
    if is_full() {
        let shape = Shape { name: "split", roles: &SPLIT, partitions: 3, over: Over::Services };
        run(shape, PLAN, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_over_tls() {
    let shape = Shape { name: "split, TLS", roles: &SPLIT, partitions: 3, over: Over::Tls };
    run(shape, Plan { batches: 30, users: 2, commands: 12, ..PLAN }, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_and_scaled() {
    let shape =
        Shape { name: "split and scaled", roles: &SCALED, partitions: 6, over: Over::Services };
    run(shape, PLAN, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_and_grown() {
    if is_full() {
        let shape =
            Shape { name: "split, grown", roles: &SPLIT, partitions: 2, over: Over::Services };
        run(shape, PLAN, Some(Faults::growing(PLAN.calls() / 2, 5))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_and_scaled_while_everything_fails() {
    if !is_full() {
        return;
    }
    let seed = match std::env::var("TRIPLINE_SEED") {
        Ok(text) => text.parse().expect("TRIPLINE_SEED: expected a number"),
        Err(_) => SeededRandom::from_host().next_u64() % 1_000_000,
    };
    eprintln!("TRIPLINE_SEED={seed}");
    let plan = Plan { seed, batches: 300, users: 4, commands: 100 };
    let shape = Shape {
        name: "split, scaled, failing",
        roles: &SCALED,
        partitions: 6,
        over: Over::Services,
    };
    let faults = Faults::of_seed(seed, plan.calls());
    run(shape, plan, Some(faults)).await;
}
