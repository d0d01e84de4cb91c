//! What flows: users register, create, change and delete watches while a feeder pushes ticks;
//! alerts are made and mailed; one user leaves.

use std::fmt;
use std::time::Duration;

use futures::future::join_all;

use crate::check::{self, Found};
use crate::faults::{Done, Faults};
use crate::fleet::{FEEDER, Fleet};
use crate::offsets;
use crate::story::{Story, ticks};
use crate::user::User;

/// How much flows.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) batches: u64,
    pub(crate) users: u64,
    /// Commands of each user.
    pub(crate) commands: u64,
}

impl Plan {
    /// Calls that are answered in all, about.
    pub(crate) fn calls(&self) -> u64 {
        self.batches + self.users * self.commands
    }
}

/// What a run came to.
pub(crate) struct History {
    found: Found,
    retries: u64,
    faults: Done,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { ticks, watches, alerts, delivered, cancelled, dead, duplicates } = self.found;
        write!(
            f,
            "{ticks} ticks, {watches} watches, {alerts} alerts ({delivered} delivered, \
             {cancelled} cancelled, {dead} dead), {} calls repeated, {duplicates} mails more than \
             once; {}",
            self.retries, self.faults
        )
    }
}

/// Runs the scenario on a fleet to its end, and checks everything.
pub(crate) async fn run(mut fleet: Fleet, plan: &Plan, faults: Option<Faults>) -> History {
    fleet.add_feeder().await;
    let batches = ticks(plan.seed, plan.batches);
    let mut feeder = fleet.caller(FEEDER);
    let mut answered = fleet.answered.subscribe();
    let feeding = async {
        feeder.log_in().await;
        for (number, batch) in (0..).zip(&batches) {
            // In step with the users, so that ticks and commands meet all the way.
            let due = number + number * plan.users * plan.commands / plan.batches;
            answered.wait_for(|count| *count >= due).await.unwrap();
            feeder.push(batch).await;
        }
        feeder.retries
    };
    let mut users = Vec::new();
    for number in 0..plan.users {
        let caller = fleet.caller(&format!("user{number}@example.com"));
        users.push((number, caller, fleet.database().await));
    }
    let users = users.into_iter().map(|(number, caller, mut store)| async move {
        let mut user = User::register(caller, &mut store, plan.seed + number).await;
        // Growing waits until nobody is connected.
        drop(store);
        for _ in 0..plan.commands {
            user.act().await;
        }
        // The first one leaves while the others' ticks still flow.
        if number == 0 {
            user.leave().await;
        }
        let retries = user.retries();
        (user.watches, retries)
    });
    let has_faults = faults.is_some();
    let failing = async {
        match faults {
            Some(faults) => faults.inflict(&mut fleet).await,
            None => Done::default(),
        }
    };
    let (retries, users, done) = tokio::join!(feeding, join_all(users), failing);
    let retries = retries + users.iter().map(|(_, retries)| retries).sum::<u64>();
    let story: Story = users.into_iter().flat_map(|(watches, _)| watches).collect();
    let ticks: Vec<_> = batches.into_iter().flatten().collect();
    let patience = Duration::from_secs(if has_faults { 300 } else { 120 });
    fleet.settled(ticks.len() as u64, patience).await;
    let mails = fleet.mails();
    fleet.stop().await;
    offsets::kafka_shows_the_positions(&fleet).await;
    let mut store = fleet.database().await;
    let found =
        check::all_is_as_the_reference_has_it(&mut store, &mails, &ticks, &story, has_faults);
    History { found: found.await, retries, faults: done }
}
