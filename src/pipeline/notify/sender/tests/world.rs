//! A running sender with a scripted mailer and the store port's contract in memory.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::adapters::clock::ManualClock;
use crate::metrics::Metrics;
use crate::model::{
    Alert, AlertId, Condition, Offset, Partition, Timestamp, UserId, Version, WatchId,
};
use crate::pipeline::broker::Topic;
use crate::pipeline::clock::{Clock as _, Random};
use crate::pipeline::notify::*;
use crate::pipeline::store::{DeadRecord, Fence, Span, StoreError, TopicStore};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    Transient,
    Permanent,
    Unreachable,
    Silence,
    Panic,
}
use Answer::{Panic, Permanent, Silence, Taken, Transient, Unreachable};

/// Answers by script, per recipient; what is not scripted is taken.
#[derive(Default)]
pub(super) struct ScriptedMailer {
    pub(super) scripts: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    pub(super) asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Mailer for ScriptedMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let to = mail.to.to_string();
        self.asked.lock().unwrap().push(to.clone());
        let answer = self.scripts.lock().unwrap().get_mut(&to).and_then(VecDeque::pop_front);
        match answer.unwrap_or(Taken) {
            Taken => Ok(()),
            Transient => Err(MailError::Transient("450 later".to_owned())),
            Permanent => Err(MailError::Permanent("550 no such user".to_owned())),
            Unreachable => Err(MailError::Unreachable("connection refused".to_owned())),
            Silence => pending().await,
            Panic => panic!("the script says so"),
        }
    }
}

pub(super) struct Row {
    pub(super) delivery: Delivery,
    pub(super) due: Timestamp,
    pub(super) claimed_until: Option<Timestamp>,
    pub(super) end: Option<Outcome>,
}

/// The contract of the port, in memory.
pub(super) struct MemoryStore {
    pub(super) clock: Arc<ManualClock>,
    pub(super) rows: Mutex<BTreeMap<DeliveryId, Row>>,
    /// How many of the next calls fail as transient.
    pub(super) failures: AtomicU32,
    /// How many of the next settles fail besides.
    pub(super) settle_failures: AtomicU32,
    /// Claims that happen and whose answer is lost.
    pub(super) lost_answers: AtomicU32,
    pub(super) claims: AtomicU32,
    pub(super) settles: Mutex<Vec<usize>>,
}

impl MemoryStore {
    fn failing(failures: &AtomicU32) -> Result<(), StoreError> {
        let left = failures.load(Ordering::Relaxed);
        if left == 0 {
            return Ok(());
        }
        failures.store(left - 1, Ordering::Relaxed);
        Err(StoreError::Transient("database is locked".to_owned()))
    }

    pub(super) fn rows(&self) -> MutexGuard<'_, BTreeMap<DeliveryId, Row>> {
        self.rows.lock().unwrap()
    }
}

#[async_trait]
impl TopicStore for MemoryStore {
    async fn adopt_topic(&self, _: &str, _: Topic) -> Result<(), StoreError> {
        unreachable!("the sender reads no topic")
    }
}

#[async_trait]
impl NotifyStore for MemoryStore {
    async fn own(&self, _: Partition, _: Offset) -> Result<Owned, StoreError> {
        unreachable!("the sender reads no partition")
    }

    async fn accept(
        &self,
        _: Fence,
        _: Span,
        _: &[Incoming],
        _: &[DeadRecord],
        _: &Claimant,
        _: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        unreachable!("the sender accepts nothing")
    }

    async fn claim(&self, claimant: &Claimant, limit: u32) -> Result<Claimed, StoreError> {
        self.claims.fetch_add(1, Ordering::Relaxed);
        Self::failing(&self.failures)?;
        let now = self.clock.now();
        let mut claimed = Claimed::default();
        let mut rows = self.rows();
        let mut open: Vec<&mut Row> = rows
            .values_mut()
            .filter(|row| row.end.is_none() && row.claimed_until.is_none_or(|until| until <= now))
            .collect();
        open.sort_by_key(|row| row.due);
        for row in open {
            if row.due > now {
                claimed.next_due.get_or_insert(row.due);
            } else if claimed.deliveries.len() < usize::try_from(limit).unwrap() {
                row.claimed_until = Some(now.plus(Duration::from_millis(claimant.lease_ms)));
                claimed.deliveries.push(row.delivery.clone());
            }
        }
        drop(rows);
        Self::failing(&self.lost_answers)?;
        Ok(claimed)
    }

    async fn reclaim(
        &self,
        claimant: &Claimant,
        known: &[DeliveryId],
        held_ms: u64,
    ) -> Result<Vec<Delivery>, StoreError> {
        Self::failing(&self.failures)?;
        let until = self.clock.now().plus(Duration::from_millis(claimant.lease_ms));
        let held = Duration::from_millis(held_ms);
        let mut rows = self.rows();
        let lost = rows.iter_mut().filter(|(id, row)| {
            let old = row.claimed_until.is_some_and(|found| found.plus(held) <= until);
            old && row.end.is_none() && !known.contains(id)
        });
        let lost = lost.map(|(_, row)| {
            row.claimed_until = Some(until);
            row.delivery.clone()
        });
        Ok(lost.collect())
    }

    async fn settle(&self, _: &Claimant, settlements: &[Settlement]) -> Result<(), StoreError> {
        Self::failing(&self.failures)?;
        Self::failing(&self.settle_failures)?;
        self.settles.lock().unwrap().push(settlements.len());
        let mut rows = self.rows();
        for Settlement { id, outcome } in settlements {
            let row = rows.get_mut(id).unwrap();
            row.claimed_until = None;
            match outcome {
                Outcome::Delivered | Outcome::Dead { .. } => row.end = Some(outcome.clone()),
                Outcome::Retry { at, .. } => {
                    (row.due, row.delivery.attempts) = (*at, row.delivery.attempts + 1);
                }
                Outcome::Unjudged { at, .. } => row.due = *at,
            }
        }
        Ok(())
    }
}

/// No jitter at all.
pub(super) struct Fixed;
impl Random for Fixed {
    fn next_u64(&self) -> u64 {
        0
    }
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) mailer: Arc<ScriptedMailer>,
    pub(super) metrics: Metrics,
    pub(super) handle: SenderHandle,
    pub(super) stop: CancellationToken,
    pub(super) run: JoinHandle<Result<(), StoreError>>,
}

impl World {
    /// A running sender; `scripts` say how each recipient's attempts go.
    pub(super) async fn new(options: SenderOptions, scripts: &[(&str, &[Answer])]) -> Self {
        let clock = Arc::new(ManualClock::new("2000-03-01T14:30:00Z".parse().unwrap()));
        let store = Arc::new(MemoryStore {
            clock: Arc::clone(&clock),
            rows: Mutex::default(),
            failures: AtomicU32::new(0),
            settle_failures: AtomicU32::new(0),
            lost_answers: AtomicU32::new(0),
            claims: AtomicU32::new(0),
            settles: Mutex::default(),
        });
        let mailer = Arc::new(ScriptedMailer::default());
        for (to, answers) in scripts {
            let answers = answers.iter().copied().collect();
            mailer.scripts.lock().unwrap().insert((*to).to_owned(), answers);
        }
        let metrics = Metrics::new("test");
        let ports = SenderPorts {
            store: Arc::clone(&store) as _,
            mailer: Arc::clone(&mailer) as _,
            clock: Arc::clone(&clock) as _,
            random: Arc::new(Fixed),
            metrics: metrics.clone(),
        };
        let (sender, handle) = Sender::new(ports, options, "test").unwrap();
        let stop = CancellationToken::new();
        let run = tokio::spawn(sender.run(stop.clone()));
        let world = Self { clock, store, mailer, metrics, handle, stop, run };
        world.idle().await;
        world
    }

    /// Lets every task run until all wait: paused time passes only then.
    pub(super) async fn idle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    pub(super) async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.idle().await;
    }

    /// Adds due deliveries and says so.
    pub(super) async fn add(&self, to: &[&str]) {
        for to in to {
            let id = DeliveryId(u64::try_from(self.store.rows().len()).unwrap() + 1);
            let now = self.clock.now();
            let delivery = delivery(id, to, now);
            let row = Row { delivery, due: now, claimed_until: None, end: None };
            self.store.rows().insert(id, row);
        }
        self.handle.wake();
        self.idle().await;
    }

    pub(super) fn asked(&self) -> usize {
        self.mailer.asked.lock().unwrap().len()
    }

    pub(super) fn delivered(&self) -> usize {
        let rows = self.store.rows();
        rows.values().filter(|row| row.end == Some(Outcome::Delivered)).count()
    }

    pub(super) fn row<T>(&self, id: u64, read: impl FnOnce(&Row) -> T) -> T {
        read(&self.store.rows()[&DeliveryId(id)])
    }

    pub(super) fn shows(&self, line: &str) {
        let page = self.metrics.page();
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
}

pub(super) fn delivery(id: DeliveryId, to: &str, accepted: Timestamp) -> Delivery {
    let id_ = AlertId {
        watch: WatchId(id.0),
        version: Version(1),
        time: accepted,
        condition: Condition::Above,
    };
    let alert = Alert {
        id: id_,
        user: UserId(1),
        symbol: "AAPL".parse().unwrap(),
        price: "118.56".parse().unwrap(),
        threshold: "110".parse().unwrap(),
    };
    Delivery { id, alert, email: to.parse().unwrap(), attempts: 0, accepted, trace: None }
}
