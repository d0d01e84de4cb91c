//! A user who creates, changes, pauses, resumes and deletes watches, and knows what must be.
// Each test that shares this file uses a part of it.
#![allow(dead_code)]

use tripline::adapters::clock::SeededRandom;
use tripline::model::{Policy, Price, UserId, Version, Watch, WatchId, WatchSpec};
use tripline::pipeline::clock::Random as _;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::watches_client::WatchesClient;

use crate::caller::{Caller, PASSWORD};
use crate::database::Database;
use crate::story::{Lived, Story, cents, symbol};

/// Watches that one user has at a time, at most.
const WATCHES_MAX: usize = 6;

pub(crate) struct User {
    caller: Caller,
    random: SeededRandom,
    id: UserId,
    pub(crate) watches: Story,
}

impl User {
    /// Registers, logs in, and creates watches that tell with nearly every tick, so that mails
    /// flow all the time.
    pub(crate) async fn register(mut caller: Caller, store: &mut Database, seed: u64) -> Self {
        let (email, password) = (caller.email.clone(), PASSWORD.to_owned());
        let registration = v1::RegisterRequest { email: email.clone(), password };
        let answer = caller.call(registration, async |channel, request| {
            AccountsClient::new(channel).register(request).await
        });
        answer.await;
        caller.log_in().await;
        let id = store.number(format!("SELECT id FROM users WHERE email = '{email}'")).await;
        let id = UserId(u32::try_from(id).unwrap());
        let mut user =
            Self { caller, random: SeededRandom::new(seed), id, watches: Story::default() };
        for number in 0..2 {
            let policy = Policy::Step { step: cents(1) };
            let spec = WatchSpec::new(symbol(number), None, Some(cents(1)), policy, 0);
            user.create(spec.unwrap()).await;
        }
        user
    }

    /// Calls that it had to repeat.
    pub(crate) fn retries(&self) -> u64 {
        self.caller.retries
    }

    fn roll(&self, sides: u64) -> u64 {
        self.random.next_u64() % sides
    }

    /// Does one thing, and checks its answer.
    pub(crate) async fn act(&mut self) {
        let alive = |(id, lived): (&WatchId, &Lived)| (!lived.deleted).then_some(*id);
        let alive: Vec<WatchId> = self.watches.iter().filter_map(alive).collect();
        let what = self.roll(10);
        if alive.is_empty() || (what < 3 && alive.len() < WATCHES_MAX) {
            let (low, high) = (self.low(), self.high());
            let cooldown_s = self.roll(2) * 5;
            let policy = self.policy();
            let spec = WatchSpec::new(symbol(self.roll(4)), low, high, policy, cooldown_s);
            return self.create(spec.unwrap()).await;
        }
        let id = alive[usize::try_from(self.roll(alive.len() as u64)).unwrap()];
        if what == 3 { self.delete(id).await } else { self.change(id).await }
    }

    fn low(&self) -> Option<Price> {
        (self.roll(3) > 0).then(|| cents(9_000 + self.roll(500)))
    }

    fn high(&self) -> Option<Price> {
        (self.roll(3) > 0).then(|| cents(10_500 + self.roll(500)))
    }

    fn policy(&self) -> Policy {
        match self.roll(4) {
            0 => Policy::Once,
            1 => Policy::Step { step: cents(500) },
            2 => Policy::Crossing { hysteresis: "2".parse().unwrap() },
            _ => Policy::Crossing { hysteresis: "0".parse().unwrap() },
        }
    }

    async fn create(&mut self, spec: WatchSpec) {
        let (policy, step, hysteresis) = policy_fields(spec.policy());
        let message = v1::CreateWatchRequest {
            symbol: spec.symbol().to_string(),
            low: text(spec.low()),
            high: text(spec.high()),
            policy,
            step,
            hysteresis,
            cooldown_seconds: spec.cooldown_s(),
        };
        let answer = self.caller.call(message, async |channel, request| {
            WatchesClient::new(channel).create_watch(request).await
        });
        let created = answer.await.watch.unwrap();
        let (id, first) = (WatchId(created.id), Version::FIRST);
        let watch = Watch {
            id,
            user: self.id,
            version: first,
            fresh_since: first,
            cooldown_since: first,
            paused: false,
            spec,
        };
        let email = self.caller.email.clone();
        let lived = Lived { versions: vec![watch], deleted: false, email };
        let before = self.watches.insert(id, lived);
        assert!(before.is_none(), "a request made watch {id} that another had made");
        self.answered(id, &created);
    }

    async fn change(&mut self, id: WatchId) {
        let old = self.watches[&id].now();
        let mut message = v1::ChangeWatchRequest { id: id.0, ..Default::default() };
        let (mut now, mut low, mut high) = (old.spec.symbol(), old.spec.low(), old.spec.high());
        let (mut policy, mut cooldown_s) = (old.spec.policy(), old.spec.cooldown_s());
        let mut paused = old.paused;
        match self.roll(8) {
            0 | 1 => {
                paused = !paused;
                message.paused = Some(paused);
            }
            2 => {
                cooldown_s = self.roll(3) * 5;
                message.cooldown_seconds = Some(cooldown_s);
            }
            3 => {
                now = symbol(self.roll(4));
                message.symbol = Some(now.to_string());
            }
            4 => {
                policy = self.policy();
                let (kind, step, hysteresis) = policy_fields(policy);
                message.policy = Some(kind);
                message.step = (!step.is_empty()).then_some(step);
                message.hysteresis = (!hysteresis.is_empty()).then_some(hysteresis);
            }
            5 => {
                // Equal values are no change.
                message.low = Some(text(low));
                message.paused = Some(paused);
            }
            _ => {
                (low, high) = (self.low(), self.high());
                (message.low, message.high) = (Some(text(low)), Some(text(high)));
            }
        }
        let answer = self.caller.call(message, async |channel, request| {
            WatchesClient::new(channel).change_watch(request).await
        });
        let changed = answer.await.watch.unwrap();
        let spec = WatchSpec::new(now, low, high, policy, cooldown_s).unwrap();
        self.watches.get_mut(&id).unwrap().change(spec, paused);
        self.answered(id, &changed);
    }

    async fn delete(&mut self, id: WatchId) {
        let message = v1::DeleteWatchRequest { id: id.0 };
        let answer = self.caller.call(message, async |channel, request| {
            WatchesClient::new(channel).delete_watch(request).await
        });
        answer.await;
        self.watches.get_mut(&id).unwrap().deleted = true;
    }

    /// Deletes the account.
    pub(crate) async fn leave(&mut self) {
        let message = v1::DeleteAccountRequest { password: PASSWORD.to_owned() };
        let answer = self.caller.call(message, async |channel, request| {
            AccountsClient::new(channel).delete_account(request).await
        });
        answer.await;
        self.watches.values_mut().for_each(|lived| lived.deleted = true);
    }

    /// An answer tells the watch as it must be now: nobody else changes it.
    fn answered(&self, id: WatchId, found: &v1::Watch) {
        let expected = self.watches[&id].now();
        assert_eq!(
            (found.id, found.version, found.paused, found.symbol.as_str()),
            (id.0, expected.version.0, expected.paused, expected.spec.symbol().as_str())
        );
        assert_eq!(found.low, text(expected.spec.low()));
        assert_eq!(found.high, text(expected.spec.high()));
    }
}

fn text(price: Option<Price>) -> String {
    price.map(|price| price.to_string()).unwrap_or_default()
}

/// The fields `policy`, `step` and `hysteresis` of messages.
fn policy_fields(policy: Policy) -> (i32, String, String) {
    match policy {
        Policy::Crossing { hysteresis } => {
            (v1::Policy::Crossing.into(), String::new(), hysteresis.to_string())
        }
        Policy::Step { step } => (v1::Policy::Step.into(), step.to_string(), String::new()),
        Policy::Once => (v1::Policy::Once.into(), String::new(), String::new()),
    }
}
