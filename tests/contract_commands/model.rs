//! Random commands of several users, compared with a slow and obvious model of them.

use std::collections::{BTreeMap, HashMap};

use tripline::adapters::clock::SeededRandom;
use tripline::model::{Policy, Symbol, UserId, Version, Watch, WatchId, WatchSpec};
use tripline::pipeline::clock::Random;
use tripline::server::store::{
    Command, QueryStore, Recorded, Refusal, Reply, Request, WatchPatch, WatchRef,
};

use crate::fixture::{Fixture, WATCHES_MAX, email, price, request, symbol};
use crate::requests;

const STEPS: u64 = 600;

/// What the store should hold.
#[derive(Default)]
struct Model {
    users: BTreeMap<u32, String>,
    watches: BTreeMap<u64, Watch>,
    /// Changes not applied yet, in any order.
    pending: Vec<(Symbol, Option<WatchId>)>,
    requests: HashMap<String, Recorded>,
    user_last: u32,
    watch_last: u64,
}

impl Model {
    fn of(&self, user: UserId) -> Vec<Watch> {
        self.watches.values().filter(|watch| watch.user == user).copied().collect()
    }

    fn watched(&self, active: bool) -> Vec<Symbol> {
        let counts = self.watches.values().filter(|watch| !active || !watch.paused);
        let mut symbols: Vec<_> = counts.map(|watch| watch.spec.symbol()).collect();
        symbols.sort();
        symbols.dedup();
        symbols
    }

    /// Carries a command out; the ids of what is new are taken from the store: from its reply,
    /// and that of the first watch of a new account from `first`.
    fn run(&mut self, command: &Command, found: &Reply, first: Option<u64>) -> Reply {
        self.carry_out(command, found, first).unwrap_or_else(Reply::Refused)
    }

    fn carry_out(
        &mut self,
        command: &Command,
        found: &Reply,
        first: Option<u64>,
    ) -> Result<Reply, Refusal> {
        match command {
            Command::Register { email, watch, .. } => {
                if self.users.values().any(|taken| taken == email.folded()) {
                    return Err(Refusal::EmailTaken);
                }
                let Reply::Registered { user, .. } = *found else {
                    panic!("expected an account, found {found:?}");
                };
                assert!(user > self.user_last, "{user} was used before");
                self.user_last = user;
                self.users.insert(user, email.folded().to_owned());
                if let Some(spec) = watch {
                    let id = first.expect("the watch of a new account");
                    assert!(id > self.watch_last, "{id} was used before");
                    self.add(UserId(user), *spec, id);
                }
                Ok(found.clone())
            }
            Command::DeleteUser { user } => {
                self.users.remove(&user.0).ok_or(Refusal::UnknownUser)?;
                for watch in self.of(*user) {
                    self.remove(watch);
                }
                Ok(Reply::Done)
            }
            Command::CreateWatch { user, spec } => self.create(*user, *spec, found),
            Command::ChangeWatch { user, watch, patch, or_create } => {
                let mine = self.of(*user);
                let old = match watch {
                    WatchRef::Oldest => mine.first(),
                    WatchRef::Id(id) => mine.iter().find(|watch| watch.id == *id),
                };
                match (old, or_create, watch) {
                    (Some(old), _, _) => self.change(*old, patch),
                    (None, Some(spec), _) if mine.is_empty() => self.create(*user, *spec, found),
                    _ if !self.users.contains_key(&user.0) => Err(Refusal::UnknownUser),
                    (None, _, WatchRef::Oldest) => Err(Refusal::NoWatch),
                    (None, _, WatchRef::Id(_)) => Err(Refusal::UnknownWatch),
                }
            }
            Command::DeleteWatch { user, watch } => {
                let mine = self.of(*user);
                match mine.into_iter().find(|mine| mine.id == *watch) {
                    Some(watch) => self.remove(watch),
                    None if self.users.contains_key(&user.0) => return Err(Refusal::UnknownWatch),
                    None => return Err(Refusal::UnknownUser),
                }
                Ok(Reply::Done)
            }
            Command::ResetSymbol { symbol } => {
                if !self.watched(false).contains(symbol) {
                    return Err(Refusal::UnknownSymbol);
                }
                self.pending.push((*symbol, None));
                Ok(Reply::Done)
            }
            other => panic!("{other:?} is not part of this"),
        }
    }

    fn create(&mut self, user: UserId, spec: WatchSpec, found: &Reply) -> Result<Reply, Refusal> {
        if !self.users.contains_key(&user.0) {
            return Err(Refusal::UnknownUser);
        }
        if self.of(user).len() >= WATCHES_MAX as usize {
            return Err(Refusal::TooManyWatches(WATCHES_MAX));
        }
        let Reply::Watch { id } = *found else { panic!("expected a watch, found {found:?}") };
        assert!(id > self.watch_last, "{id} was used before");
        self.add(user, spec, id);
        Ok(Reply::Watch { id })
    }

    fn add(&mut self, user: UserId, spec: WatchSpec, id: u64) {
        self.watch_last = id;
        let one = Version(1);
        let (version, fresh_since, cooldown_since) = (one, one, one);
        let id = WatchId(id);
        let watch = Watch { id, user, version, fresh_since, cooldown_since, paused: false, spec };
        self.watches.insert(id.0, watch);
        self.pending.push((spec.symbol(), Some(id)));
    }

    fn remove(&mut self, watch: Watch) {
        self.watches.remove(&watch.id.0);
        self.pending.push((watch.spec.symbol(), Some(watch.id)));
    }

    /// The rules as they are written down, not as they are implemented.
    fn change(&mut self, old: Watch, patch: &WatchPatch) -> Result<Reply, Refusal> {
        let was = old.spec;
        let symbol = patch.symbol.unwrap_or(was.symbol());
        let (low, high) = (patch.low.unwrap_or(was.low()), patch.high.unwrap_or(was.high()));
        let policy = patch.policy.apply(was.policy());
        let cooldown_s = patch.cooldown_s.unwrap_or(was.cooldown_s());
        let paused = patch.paused.unwrap_or(old.paused);
        if let (Some(low), Some(high)) = (low, high)
            && low >= high
        {
            let why = format!("expected low < high, found low {low} and high {high}");
            return Err(Refusal::Thresholds(why));
        }
        let elsewhere = symbol != was.symbol();
        let retold = elsewhere || policy != was.policy();
        let moved = (low, high) != (was.low(), was.high());
        let other = cooldown_s != was.cooldown_s() || paused != old.paused;
        if retold || moved || other {
            let version = Version(old.version.0 + 1);
            let keeps_pair = matches!(policy, Policy::Step { .. });
            let fresh = retold || (moved && !keeps_pair);
            let spec = WatchSpec::new(symbol, low, high, policy, cooldown_s).unwrap();
            let next = Watch {
                version,
                fresh_since: if fresh { version } else { old.fresh_since },
                cooldown_since: if retold || moved { version } else { old.cooldown_since },
                paused,
                spec,
                ..old
            };
            self.watches.insert(old.id.0, next);
            self.pending.push((symbol, Some(old.id)));
            if elsewhere {
                self.pending.push((was.symbol(), Some(old.id)));
            }
        }
        Ok(Reply::Watch { id: old.id.0 })
    }
}

/// Choices of a seed.
struct Choices(SeededRandom);

impl Choices {
    fn below(&self, count: u64) -> u64 {
        self.0.next_u64() % count
    }

    fn one<T: Clone>(&self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()].clone()
    }

    fn symbol(&self) -> Symbol {
        symbol(self.one(&["A", "B", "C", "D"]))
    }

    fn threshold(&self) -> Option<tripline::model::Price> {
        self.one(&[None, Some("1"), Some("2"), Some("3")]).map(price)
    }

    fn policy(&self) -> Policy {
        let wide = Policy::Crossing { hysteresis: "0.5".parse().unwrap() };
        let steps = ["1", "2"].map(|step| Policy::Step { step: price(step) });
        self.one(&[Policy::default(), wide, steps[0], steps[1], Policy::Once])
    }

    fn spec(&self) -> WatchSpec {
        let (low, high) = (self.threshold(), self.threshold());
        let spec = WatchSpec::new(self.symbol(), low, high, self.policy(), self.below(2));
        spec.unwrap_or_else(|_| self.spec())
    }

    fn sometimes<T>(&self, make: impl Fn(&Self) -> T) -> Option<T> {
        (self.below(3) == 0).then(|| make(self))
    }

    fn command(&self, model: &Model) -> Command {
        let user = UserId(self.0.next_u64() as u32 % 4 + model.user_last.saturating_sub(2));
        let user = match model.users.keys().nth(usize::try_from(self.below(4)).unwrap()) {
            Some(known) => UserId(*known),
            None => user,
        };
        let mine = model.of(user);
        let watch = match self.one(&[0, 1, 2, 3]) {
            0 => WatchId(self.below(model.watch_last + 2)),
            _ if mine.is_empty() => WatchId(1),
            _ => self.one(&mine).id,
        };
        match self.below(16) {
            0 | 1 => Command::Register {
                email: email(self.one(&["a@x", "B@x", "b@X", "c@x", "d@x"])),
                password_hash: "hash".into(),
                watch: self.sometimes(Self::spec),
            },
            2 if self.below(4) == 0 => Command::DeleteUser { user },
            2..=5 => Command::CreateWatch { user, spec: self.spec() },
            6 | 7 => Command::DeleteWatch { user, watch },
            8 => Command::ResetSymbol { symbol: self.symbol() },
            _ => Command::ChangeWatch {
                user,
                watch: self.one(&[WatchRef::Oldest, WatchRef::Id(watch), WatchRef::Id(watch)]),
                patch: WatchPatch {
                    symbol: self.sometimes(Self::symbol),
                    low: self.sometimes(Self::threshold),
                    high: self.sometimes(Self::threshold),
                    policy: self.sometimes(Self::policy).map(Into::into).unwrap_or_default(),
                    cooldown_s: self.sometimes(|choices| choices.below(2)),
                    paused: self.sometimes(|choices| choices.below(2) == 0),
                },
                or_create: self.sometimes(Self::spec),
            },
        }
    }

    fn request(&self) -> Option<Request> {
        let id = format!("r{}", self.below(STEPS / 2));
        self.sometimes(|choices| request("user:1", &id, u8::from(choices.below(5) == 0)))
    }
}

pub(crate) async fn random_commands_agree_with_a_model(f: Fixture) {
    let seed = 0x7121_9001;
    let choices = Choices(SeededRandom::new(seed));
    let mut model = Model::default();
    let mut refused = 0;
    let mut repeated = 0;
    for step in 0..STEPS {
        let (command, request) = (choices.command(&model), choices.request());
        let context = format!("seed {seed:#x}, step {step}: {command:?} as {request:?}");
        let found = f.store.execute(request.as_ref(), &command).await.unwrap();
        let known = request.as_ref().and_then(|request| model.requests.get(&request.key.id));
        if let Some(known) = known {
            assert_eq!(found, requests::repeated(known), "{context}");
            repeated += 1;
        } else {
            let first = match found.reply {
                Reply::Registered { user, .. } => {
                    f.watches(UserId(user)).await.first().map(|w| w.id.0)
                }
                _ => None,
            };
            assert_eq!(found.reply, model.run(&command, &found.reply, first), "{context}");
            refused += u32::from(matches!(found.reply, Reply::Refused(_)));
            assert!(!found.again, "{context}");
            if let Some(view) = found.view {
                let (user, id) = (view.watch.user, WatchRef::Id(view.watch.id));
                let asked = QueryStore::watch(&*f.store, user, id).await.unwrap();
                assert_eq!(asked, Some(view), "{context}");
            }
            if let Some(request) = request {
                assert_eq!(found.fingerprint, request.fingerprint, "{context}");
                model.requests.insert(request.key.id, found);
            }
        }
        for user in model.users.keys() {
            assert_eq!(f.watches(UserId(*user)).await, model.of(UserId(*user)), "{context}");
        }
        assert_eq!(f.store.watched().await.unwrap(), model.watched(true), "{context}");
        let watched = model.watched(false).len() as u64;
        assert_eq!(f.store.watched_count().await.unwrap(), watched, "{context}");
        if choices.below(8) == 0 {
            let (mut found, mut expected) = (f.apply().await, std::mem::take(&mut model.pending));
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{context}");
        }
    }
    // The run met what it is about.
    assert!(refused > 50 && repeated > 20, "{refused} refused, {repeated} repeated");
}
