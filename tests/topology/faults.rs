//! What fails, and when: drawn from a seed, each fault once so many calls have been answered.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tripline::adapters::clock::SeededRandom;
use tripline::pipeline::clock::Random as _;

use crate::fleet::Fleet;
use crate::grow::grow;
use crate::smtp::Act;

/// How long a process stands still: several leases.
const FROZEN: Duration = Duration::from_secs(30);
/// How long a service is down or stands still. A fault lasts for a time, whatever the system does
/// meanwhile, so none of these three waits for anything.
const DOWN: Duration = Duration::from_secs(5);
/// How long the network is cut.
const CUT: Duration = Duration::from_secs(12);
/// Mails that are refused in a row.
const REFUSALS: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and another process in its place.
    Kill(usize),
    /// Everything is stopped, the topics grow to so many partitions, and everything starts again.
    Grow(u32),
    /// SIGSTOP, and on again after its leases have ended.
    Freeze(usize),
    /// A Kafka broker is killed and comes back.
    Broker(u64),
    /// The database is killed and comes back.
    Database,
    /// The network between one process and the database is cut for longer than its lease.
    Cut,
    /// Redis forgets everything.
    FlushRedis,
    /// Redis stands still for a while.
    SlowRedis,
    /// The mail server refuses for a while.
    Refuse,
}

/// Faults in the order of when they are due.
pub(crate) struct Faults(Vec<(u64, Fault)>);

/// What was inflicted.
#[derive(Default)]
pub(crate) struct Done {
    kills: usize,
    freezes: usize,
    services: usize,
    refusals: usize,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, freezes, services, refusals } = self;
        write!(
            f,
            "{kills} processes killed, {freezes} frozen, {services} failures of services, \
             {refusals} mails refused"
        )
    }
}

impl Faults {
    /// Each kind of fault, and some kills more, spread over `calls` answers.
    pub(crate) fn of_seed(seed: u64, calls: u64) -> Self {
        let random = SeededRandom::new(seed);
        let roll = |sides: u64| random.next_u64() % sides;
        let node = || usize::try_from(roll(9)).unwrap();
        let mut faults: Vec<Fault> = (0..6).map(|_| Fault::Kill(node())).collect();
        faults.extend([
            Fault::Freeze(3 + node() % 3),
            Fault::Freeze(node()),
            Fault::Broker(1 + roll(3)),
            Fault::Database,
            Fault::Cut,
            Fault::FlushRedis,
            Fault::SlowRedis,
            Fault::Refuse,
        ]);
        let due = |fault| (10 + roll(calls.saturating_sub(40).max(1)), fault);
        let mut faults: Vec<_> = faults.into_iter().map(due).collect();
        faults.sort_by_key(|(due, _)| *due);
        Self(faults)
    }

    /// The topics grow, after so many answers.
    pub(crate) fn growing(due: u64, partitions: u32) -> Self {
        Self(vec![(due, Fault::Grow(partitions))])
    }

    /// Inflicts each when it is due.
    pub(crate) async fn inflict(self, fleet: &mut Fleet) -> Done {
        let mut done = Done::default();
        let mut answered = fleet.answered.subscribe();
        for (due, fault) in self.0 {
            // What it returns holds a lock that whoever counts needs.
            answered.wait_for(|count| *count >= due).await.map(drop).unwrap();
            eprintln!("after {due} answers: {fault:?}");
            match fault {
                Fault::Kill(number) => {
                    fleet.kill_and_start(number).await;
                    done.kills += 1;
                }
                Fault::Grow(partitions) => grow(fleet, partitions).await,
                Fault::Freeze(number) => {
                    fleet.signal(number, "STOP").await;
                    tokio::time::sleep(FROZEN).await;
                    fleet.signal(number, "CONT").await;
                    done.freezes += 1;
                }
                Fault::Broker(number) => fail(&format!("kafka-{number}"), &mut done).await,
                Fault::Database => fail("mysql", &mut done).await,
                Fault::Cut => {
                    if let Some((_, proxy)) = fleet.behind_proxy() {
                        proxy.set(false);
                        tokio::time::sleep(CUT).await;
                        proxy.set(true);
                        done.services += 1;
                    }
                }
                Fault::FlushRedis => {
                    flush_redis().await;
                    done.services += 1;
                }
                Fault::SlowRedis => {
                    dev_services(&["pause", "redis"]).await;
                    tokio::time::sleep(DOWN).await;
                    dev_services(&["resume", "redis"]).await;
                    done.services += 1;
                }
                Fault::Refuse => {
                    for _ in 0..REFUSALS {
                        fleet.mail.act("RCPT", Act::Say("451 4.7.1 not now"));
                    }
                    done.refusals += REFUSALS;
                }
            }
        }
        done
    }
}

/// Kills a service, leaves it dead for a moment, and starts it again.
async fn fail(name: &str, done: &mut Done) {
    dev_services(&["kill", name]).await;
    tokio::time::sleep(DOWN).await;
    dev_services(&["up", name]).await;
    done.services += 1;
}

/// Does something to the services; returns what was said.
pub(crate) async fn dev_services(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dev/services");
    let output = Command::new(script).args(arguments).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dev/services {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

async fn flush_redis() {
    let url = std::env::var("TRIPLINE_TEST_REDIS").unwrap();
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
}
