//! Ticks that come at their instants whether or not those before them were accepted yet, 1,000 a
//! second, one in a hundred of which tells an alert; and when the mails of those were handed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tripline::adapters::clock::SystemClock;
use tripline::model::{Email, Policy, Price, Symbol, Tick, Timestamp, WatchSpec};
use tripline::pipeline::clock::Clock;
use tripline::pipeline::collect::{MarketError, TickStream};
use tripline::pipeline::evaluate::EngineTick;
use tripline::pipeline::notify::{Mail, MailError, Mailer};

use crate::common::{self, Market};
use crate::support;

const TICKS_PER_S: u64 = 1_000;
const TELLING_EACH: u64 = 100;
/// The first ones are not counted.
const WARM_UP_S: u64 = 3;
const MEASURED_S: u64 = 30;
const WATCHES: u64 = 10_000;
/// Symbols of which each has one watch, told again and again.
const TOLD: u64 = 50;

/// When the tick of an alert was due, was given to the collector, and was accepted.
#[derive(Clone, Copy)]
struct Entered {
    due: Instant,
    accepted: Option<Instant>,
}

/// What is known of telling ticks, by their times; and when their mails were handed over.
#[derive(Default)]
pub(crate) struct Book {
    entered: HashMap<Timestamp, Entered>,
    mailed: HashMap<Timestamp, Instant>,
}

pub(crate) type Shared = Arc<Mutex<Book>>;

pub(crate) struct Recorder(pub(crate) Shared);

#[async_trait]
impl Mailer for Recorder {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let now = Instant::now();
        self.0.lock().unwrap().mailed.insert(mail.alert.unwrap().time, now);
        Ok(())
    }
}

pub(crate) struct Paced {
    book: Shared,
    quiet: Vec<(Symbol, Price)>,
    start: Instant,
    /// The first tick's time.
    origin: Timestamp,
    given: u64,
    /// The times of telling ticks that the collector is at work on.
    entering: Vec<Timestamp>,
}

fn told(number: u64) -> Symbol {
    format!("TOLD{}", number % TOLD).parse().unwrap()
}

impl Paced {
    /// The first tick comes in a second.
    pub(crate) fn new(book: Shared, market: &mut Market) -> Self {
        let quiet = market.quiet_ticks(100_000);
        let quiet = quiet
            .iter()
            .map(|EngineTick { symbol, price, .. }| (market.name(symbol.0 as usize), *price))
            .collect();
        let start = Instant::now() + Duration::from_secs(1);
        Self { book, quiet, start, origin: SystemClock.now(), given: 0, entering: Vec::new() }
    }

    fn tick(&mut self) -> Tick {
        let number = self.given;
        self.given += 1;
        let time = self.origin.plus(Duration::from_millis(number * 1_000 / TICKS_PER_S));
        let (symbol, price) = match number % TELLING_EACH {
            0 => {
                let due = self.due(number);
                let entered = Entered { due, accepted: None };
                self.book.lock().unwrap().entered.insert(time, entered);
                self.entering.push(time);
                (told(number / TELLING_EACH), common::price(120.0))
            }
            // Back below the threshold, so that it can be crossed again.
            50 => (told(number / TELLING_EACH), common::price(100.0)),
            _ => self.quiet[usize::try_from(number).unwrap() % self.quiet.len()],
        };
        Tick { symbol, time, price, currency: None, market: None }
    }

    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_micros(number * 1_000_000 / TICKS_PER_S)
    }
}

#[async_trait]
impl TickStream for Paced {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>> {
        let now = Instant::now();
        // The collector asks for more once what it was given is accepted.
        for time in self.entering.drain(..) {
            self.book.lock().unwrap().entered.get_mut(&time).unwrap().accepted = Some(now);
        }
        if self.given == (WARM_UP_S + MEASURED_S) * TICKS_PER_S {
            return None;
        }
        tokio::time::sleep_until(self.due(self.given).into()).await;
        let mut ticks = Vec::new();
        let now = Instant::now();
        while self.due(self.given) <= now && self.given < (WARM_UP_S + MEASURED_S) * TICKS_PER_S {
            ticks.push(self.tick());
        }
        Some(Ok(ticks))
    }
}

/// The watches that tell, and others that do not.
pub(crate) fn watches(market: &mut Market) -> Vec<(Email, WatchSpec)> {
    let high = Some(common::price(110.0));
    let own = (0..TOLD).map(|number| {
        let spec = WatchSpec::new(told(number), None, high, Policy::default(), 0);
        (format!("told{number}@example.com").parse().unwrap(), spec.unwrap())
    });
    own.chain(market.owned_watches(WATCHES)).collect()
}

/// Waits until the mail of every telling tick is handed over.
pub(crate) async fn complete(book: &Shared) {
    let is_complete = || {
        let book = book.lock().unwrap();
        book.entered.len() == book.mailed.len()
    };
    let complete = async {
        while !is_complete() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let complete = tokio::time::timeout(Duration::from_secs(30), complete).await;
    complete.expect("expected a mail of each telling tick");
}

/// States how long after a telling tick was accepted, and was due, its mail was handed over.
pub(crate) fn report(name: &str, book: &Book) {
    let first = book.entered.keys().min().unwrap().plus(Duration::from_secs(WARM_UP_S));
    let (mut since_accepted, mut since_due) = (Vec::new(), Vec::new());
    for (time, entered) in book.entered.iter().filter(|(time, _)| **time >= first) {
        let mailed = book.mailed.get(time).expect("expected a mail of each telling tick");
        since_due.push(mailed.duration_since(entered.due));
        since_accepted.push(mailed.duration_since(entered.accepted.unwrap()));
    }
    println!("{} alerts of {} ticks", since_due.len(), MEASURED_S * TICKS_PER_S);
    for (since, values) in [("accepted", &mut since_accepted), ("due", &mut since_due)] {
        for share in [0.5, 0.9, 0.99, 1.0] {
            let ms = support::percentile(values, share).as_secs_f64() * 1e3;
            support::figure(&format!("{name}/{since}/p{:.0}_ms", share * 100.0), ms);
        }
    }
}
