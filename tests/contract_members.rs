//! The contract of memberships. An adapter runs it by one line at the end.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/mysql_server.rs"]
mod mysql_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use tripline::adapters::clock::ManualClock;
use tripline::adapters::members::memory::MemoryMembers;
use tripline::adapters::store::mysql::MysqlStore;
use tripline::adapters::store::sqlite::SqliteStoreOptions;
use tripline::model::{Partition, Timestamp};
use tripline::pipeline::members::{Membership, View};

const TOPIC: &str = "to-alert-system";
const LEASE_MS: u64 = 5_000;

/// A membership without members.
struct Fixture {
    members: Arc<dyn Membership>,
    /// Lets time pass for the leases.
    pass: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
    _database: Option<mysql_server::Database>,
}

async fn memory() -> Option<Fixture> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000).unwrap()));
    let members = Arc::new(MemoryMembers::new(clock.clone()));
    let pass = move |by| {
        clock.advance(by);
        async {}.boxed()
    };
    Some(Fixture { members, pass: Box::new(pass), _database: None })
}

async fn mysql() -> Option<Fixture> {
    let database = mysql_server::Database::create().await?;
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000).unwrap()));
    let (mysql, options) = (database.options(), SqliteStoreOptions::default());
    let members = MysqlStore::open_with_time_of(mysql, options, clock.clone()).await.unwrap();
    let pass = move |by| {
        clock.advance(by);
        async {}.boxed()
    };
    let members = Arc::new(members);
    Some(Fixture { members, pass: Box::new(pass), _database: Some(database) })
}

fn partitions(numbers: &[u32]) -> Vec<Partition> {
    numbers.iter().copied().map(Partition).collect()
}

fn owned(view: &View) -> BTreeMap<u32, &str> {
    view.owners.iter().map(|(partition, owner)| (partition.0, owner.as_str())).collect()
}

impl Fixture {
    async fn beat(&self, member: &str) -> View {
        self.members.heartbeat(TOPIC, member, LEASE_MS).await.unwrap()
    }

    async fn claim(&self, numbers: &[u32], member: &str) -> Vec<u32> {
        let claimed = self.members.claim(TOPIC, &partitions(numbers), member).await.unwrap();
        claimed.into_iter().map(|partition| partition.0).collect()
    }

    async fn release(&self, numbers: &[u32], member: &str) {
        self.members.release(TOPIC, &partitions(numbers), member).await.unwrap();
    }

    async fn pass(&self, millis: u64) {
        (self.pass)(Duration::from_millis(millis)).await;
    }
}

async fn members_see_each_other(world: Fixture) {
    assert_eq!(world.beat("a").await.members, ["a"].map(str::to_owned).into());
    assert_eq!(world.beat("b").await.members, ["a", "b"].map(str::to_owned).into());
    let elsewhere = world.members.heartbeat("to-notifier", "c", LEASE_MS).await.unwrap();
    assert_eq!(elsewhere.members, ["c"].map(str::to_owned).into());
    world.members.leave(TOPIC, "a").await.unwrap();
    assert_eq!(world.beat("b").await.members, ["b"].map(str::to_owned).into());
}

async fn a_partition_has_one_owner(world: Fixture) {
    world.beat("a").await;
    world.beat("b").await;
    assert_eq!(world.claim(&[0, 2], "a").await, [0, 2]);
    assert_eq!(world.claim(&[0, 1, 2, 3], "b").await, [1, 3]);
    // What one has, one may claim again: the answer of the first time may have been lost.
    assert_eq!(world.claim(&[2, 1, 0], "a").await.len(), 2);
    let view = world.beat("b").await;
    assert_eq!(owned(&view), [(0, "a"), (1, "b"), (2, "a"), (3, "b")].into());
    // The other topic has its own.
    world.members.heartbeat("to-notifier", "b", LEASE_MS).await.unwrap();
    let claim = world.members.claim("to-notifier", &partitions(&[0]), "b").await;
    assert_eq!(claim.unwrap(), partitions(&[0]));
}

async fn what_is_released_can_be_claimed(world: Fixture) {
    world.beat("a").await;
    world.beat("b").await;
    world.claim(&[0, 1], "a").await;
    world.release(&[0, 1], "b").await;
    assert_eq!(owned(&world.beat("b").await), [(0, "a"), (1, "a")].into(), "it is not b's to give");
    world.release(&[1], "a").await;
    assert_eq!(world.claim(&[0, 1], "b").await, [1]);
    world.members.leave(TOPIC, "a").await.unwrap();
    assert_eq!(world.claim(&[0], "b").await, [0]);
}

async fn what_a_dead_member_owned_can_be_claimed(world: Fixture) {
    world.beat("a").await;
    world.beat("b").await;
    world.claim(&[0, 1], "a").await;
    world.pass(LEASE_MS - 1_000).await;
    world.beat("b").await;
    assert_eq!(world.claim(&[0], "b").await, [0u32; 0], "a may still live");
    world.pass(2_000).await;
    let view = world.beat("b").await;
    assert_eq!((view.members.len(), view.owners.len()), (1, 0), "{view:?}");
    assert_eq!(world.claim(&[0], "b").await, [0]);
    // It comes back, and owns nothing of what it had, claimed by another or not.
    let view = world.beat("a").await;
    assert_eq!(owned(&view), [(0, "b")].into());
    assert_eq!(world.claim(&[0, 1], "a").await, [1]);
}

async fn who_is_no_member_gets_nothing(world: Fixture) {
    assert_eq!(world.claim(&[0], "stranger").await, [0u32; 0]);
    world.beat("a").await;
    world.pass(LEASE_MS + 1_000).await;
    assert_eq!(world.claim(&[0], "a").await, [0u32; 0]);
    world.release(&[0], "a").await;
    world.members.leave(TOPIC, "a").await.unwrap();
    assert!(world.beat("b").await.owners.is_empty());
}

async fn of_many_that_claim_at_once_one_gets_it(world: Fixture) {
    let names: Vec<String> = (0..8).map(|number| format!("m{number}")).collect();
    join_all(names.iter().map(|name| world.beat(name))).await;
    let numbers: Vec<u32> = (0..12).collect();
    let claimed = join_all(names.iter().map(|name| world.claim(&numbers, name))).await;
    let mut all: Vec<u32> = claimed.concat();
    all.sort_unstable();
    assert_eq!(all, numbers, "each goes to one of them");
}

macro_rules! contract {
    ($adapter:ident: $($case:ident)*) => {
        mod $adapter {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(world) = super::$adapter().await {
                    super::$case(world).await;
                }
            })*
        }
    };
    ($adapter:ident) => {
        contract! { $adapter:
            members_see_each_other
            a_partition_has_one_owner
            what_is_released_can_be_claimed
            what_a_dead_member_owned_can_be_claimed
            who_is_no_member_gets_nothing
            of_many_that_claim_at_once_one_gets_it
        }
    };
}

contract!(memory);
contract!(mysql);
