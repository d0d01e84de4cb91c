//! Processes that die: at each crash point that `ARCHITECTURE.md` names, and by SIGKILL at random
//! moments, while ticks, commands and mails flow. At the end everything is as if none had died.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../support/caller.rs"]
mod caller;
#[path = "../support/check.rs"]
mod check;
#[path = "../support/database.rs"]
mod database;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/story.rs"]
mod story;
#[path = "../support/user.rs"]
mod user;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use caller::Caller;
use database::Database;
use futures::StreamExt as _;
use futures::future::join_all;
use process::{Serve, eventually, mails, settled};
use story::{Story, ticks};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::adapters::store::sqlite::{SqliteStore, SqliteStoreOptions};
use tripline::node::DataDir;
use tripline::pipeline::clock::Random as _;
use tripline::server::password::hash_password;
use tripline::server::store::{AccountStore, Role};
use user::User;

/// What flows, and when the process dies.
struct Plan {
    seed: u64,
    partitions: u32,
    batches: u64,
    users: u64,
    /// Commands of each user.
    commands: u64,
    /// The process is killed once so many calls have been answered, in ascending order.
    kills: Vec<u64>,
    /// The crash point at which the first process dies.
    failpoint: Option<String>,
}

/// The crash points that the page of invariants names.
fn named_failpoints() -> BTreeSet<&'static str> {
    let page = include_str!("../../ARCHITECTURE.md");
    page.split("[`").skip(1).filter_map(|rest| Some(rest.split_once("`]")?.0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_at_a_crash_point_loses_nothing_and_repeats_nothing() {
    let points = named_failpoints();
    assert!(points.len() >= 12, "{points:?}");
    let plan = |point: &str, time: u64| Plan {
        seed: time,
        partitions: 1,
        batches: 20,
        users: 2,
        commands: 12,
        kills: Vec::new(),
        failpoint: Some(format!("{point}:{time}")),
    };
    // The first time is often the beginning of everything, the second is in the midst of it.
    let plans = points.iter().flat_map(|point| [plan(point, 1), plan(point, 2)]);
    futures::stream::iter(plans).map(run).buffer_unordered(2).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn being_killed_at_any_moment_loses_nothing_and_repeats_nothing() {
    let seed = match std::env::var("TRIPLINE_SEED") {
        Ok(text) => text.parse().expect("TRIPLINE_SEED: expected a number"),
        Err(_) => SeededRandom::from_host().next_u64() % 1_000_000,
    };
    // Shown when the test fails.
    eprintln!("TRIPLINE_SEED={seed}");
    let random = SeededRandom::new(seed);
    let (batches, users, commands) = (150, 3, 60);
    let calls = batches + users * commands;
    let mut kills: Vec<_> = (0..12).map(|_| 5 + random.next_u64() % (calls - 10)).collect();
    kills.sort_unstable();
    let partitions = 1 + u32::try_from(random.next_u64() % 3).unwrap();
    run(Plan { seed, partitions, batches, users, commands, kills, failpoint: None }).await;
}

/// A data folder, the processes that serve it one after the other, and who waits for them.
struct World {
    folder: PathBuf,
    arguments: Vec<String>,
    server: watch::Sender<Vec<SocketAddr>>,
    answered: watch::Sender<u64>,
    done: CancellationToken,
}

async fn run(plan: Plan) {
    let what = format!("seed {} {:?}", plan.seed, plan.failpoint);
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let partitions = format!("topics.partitions={}", plan.partitions);
    let arguments = ["--market", "none", "--set", &partitions].map(str::to_owned).into();
    let (server, answered) = (watch::Sender::new(Vec::new()), watch::Sender::new(0));
    let world = World { folder, arguments, server, answered, done: CancellationToken::new() };
    world.create_feeder().await;

    let ticks = ticks(plan.seed, plan.batches);
    let feeder = async {
        let mut feeder = world.caller("feeder@example.com");
        feeder.log_in().await;
        let mut answered = world.answered.subscribe();
        for (number, batch) in (0..).zip(&ticks) {
            // In step with the users, so that ticks and commands meet all the way.
            let due = number + number * plan.users * plan.commands / plan.batches;
            answered.wait_for(|count| *count >= due).await.unwrap();
            feeder.push(batch).await;
        }
    };
    let (world, seed) = (&world, plan.seed);
    let users = (0..plan.users).map(|number| async move {
        let name = format!("user{number}@example.com");
        let mut store = Database::of_folder(&world.folder).await;
        let mut user = User::register(world.caller(&name), &mut store, seed + number).await;
        for _ in 0..plan.commands {
            user.act().await;
        }
        // The last one leaves while the others' ticks still flow.
        if number == 0 {
            user.leave().await;
        }
        user.watches
    });
    let clients = async {
        let (_, watches) = tokio::join!(feeder, join_all(users));
        world.done.cancel();
        watches.into_iter().flatten().collect::<Story>()
    };
    let (mut serve, story) = tokio::join!(world.keep_alive(&plan), clients);
    let all: Vec<_> = ticks.into_iter().flatten().collect();
    tokio::select! {
        () = settled(&world.folder, all.len() as u64) => {}
        status = serve.died() => panic!("{what}: it died: {status}"),
    }
    serve.stop().await;
    let (mut store, mails) = (Database::of_folder(&world.folder).await, mails(&world.folder));
    let found =
        check::all_is_as_the_reference_has_it(&mut store, &mails, &all, &story, false).await;
    eprintln!("{what}: {found:?}");
}

impl World {
    /// The first feeder comes from the host, not over the API.
    async fn create_feeder(&self) {
        drop(DataDir::open(&self.folder).unwrap());
        let file = DataDir::store_file(&self.folder);
        let options = SqliteStoreOptions::default();
        let store = SqliteStore::open(&file, options, Arc::new(SystemClock)).await;
        let (store, email) = (store.unwrap(), "feeder@example.com".parse().unwrap());
        let hash = hash_password(caller::PASSWORD).unwrap();
        store.put_account(&email, Some(Role::Feeder), Some(&hash)).await.unwrap();
        store.close().await;
    }

    fn caller(&self, email: &str) -> Caller {
        Caller::new(email, self.server.subscribe(), self.answered.clone())
    }

    async fn start(&self, env: &[(&str, &str)]) -> Serve {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut serve = Serve::launch(&self.folder, &arguments, env);
        serve.ready().await;
        self.server.send_replace(serve.grpc().into_iter().collect());
        serve
    }

    /// Serves until the clients are done, whatever becomes of single processes. Returns the last
    /// one, once every death of the plan has been died.
    async fn keep_alive(&self, plan: &Plan) -> Serve {
        let env = plan.failpoint.as_ref().map(|point| ("TRIPLINE_FAILPOINT", point.as_str()));
        let mut serve = self.start(env.as_slice()).await;
        let mut kills = plan.kills.iter().copied();
        let (mut kill_at, mut failed) = (kills.next(), env.is_none());
        let mut answered = self.answered.subscribe();
        loop {
            // What it returns holds a lock that whoever counts needs: not to be kept while waiting.
            let is_due = |count: &u64| kill_at.is_some_and(|at| *count >= at);
            let due = async { answered.wait_for(is_due).await.map(drop) };
            tokio::select! {
                biased;
                status = serve.died() => {
                    assert_eq!(status.signal(), Some(6), "it died of {status}");
                    assert!(!failed, "it died more than once");
                    failed = true;
                    self.server.send_replace(Vec::new());
                    serve = self.start(&[]).await;
                }
                _ = due => {
                    self.server.send_replace(Vec::new());
                    serve.kill().await;
                    kill_at = kills.next();
                    serve = self.start(&[]).await;
                }
                () = self.done.cancelled() => break,
            }
        }
        if !failed {
            // Mails may still be on their way to the point.
            eventually(&format!("it dies at {:?}", plan.failpoint), async || serve.ended()).await;
            let status = serve.exit().await;
            assert_eq!(status.signal(), Some(6), "{:?}: it died of {status}", plan.failpoint);
            serve = self.start(&[]).await;
        }
        assert_eq!(kill_at, None, "there were too few calls for every kill");
        serve
    }
}
