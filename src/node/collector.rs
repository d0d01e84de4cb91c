//! The collector node: a source of ticks before the door, and what is known of their age.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::supervise::supervise;
use crate::health::Health;
use crate::metrics::{Metrics, SymbolLabel};
use crate::model::{Symbol, Tick, Timestamp};
use crate::pipeline::Backoff;
use crate::pipeline::broker::BrokerError;
use crate::pipeline::clock::Clock;
use crate::pipeline::collect::{CollectStore, Door, SymbolNotes, TickStream, collect};
use crate::trace::TraceParent;

/// Notes on symbols that are written together, and the pause before the next.
const NOTES_MAX: usize = 1_000;
const NOTES_PAUSE: Duration = Duration::from_millis(200);

/// How the collector reports.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorOptions {
    /// How often the watched symbols are counted and ages are stated, in seconds.
    pub report_s: u64,
    /// Symbols that get a series of their own with the age of their newest tick; the others show
    /// in the greatest age only.
    pub age_symbols_max: usize,
}

/// The times of the newest ticks that passed a door.
#[derive(Clone, Default)]
pub struct Ages(Arc<Mutex<HashMap<Symbol, Timestamp>>>);

impl Ages {
    fn note(&self, ticks: &[Tick]) {
        // A map is whole between two statements, and nothing panics in between.
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tick in ticks {
            let time = newest.entry(tick.symbol).or_insert(tick.time);
            *time = tick.time.max(*time);
        }
    }

    /// States the ages of watched symbols, and forgets the others: what is kept is bounded by
    /// what is watched.
    fn report(&self, metrics: &Metrics, now: Timestamp, watched: &[Symbol], series_max: usize) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.retain(|symbol, _| watched.binary_search(symbol).is_ok());
        metrics.tick_age.clear();
        let mut oldest = 0.0f64;
        for (index, (symbol, time)) in
            watched.iter().filter_map(|symbol| Some((symbol, newest.get(symbol)?))).enumerate()
        {
            let age = now.since(*time).as_secs_f64();
            oldest = oldest.max(age);
            if index < series_max {
                let label = SymbolLabel { symbol: symbol.to_string() };
                metrics.tick_age.get_or_create(&label).set(age);
            }
        }
        metrics.tick_age_max.set(oldest);
    }
}

/// A door that notes the time of what passes.
struct NotingDoor {
    door: Arc<dyn Door>,
    ages: Ages,
}

#[async_trait]
impl Door for NotingDoor {
    async fn accept(
        &self,
        ticks: Vec<Tick>,
        before: Option<TraceParent>,
    ) -> Result<Vec<Option<String>>, BrokerError> {
        self.ages.note(&ticks);
        self.door.accept(ticks, before).await
    }
}

impl Ages {
    /// Notes what passes `door`.
    pub fn noting(&self, door: Arc<dyn Door>) -> Arc<dyn Door> {
        Arc::new(NotingDoor { door, ages: self.clone() })
    }
}

/// The collector's ports.
pub struct Collector {
    /// Where ticks enter.
    pub door: Arc<dyn Door>,
    /// What is watched.
    pub store: Arc<dyn CollectStore>,
    /// The ages of what passes the doors of this process.
    pub ages: Ages,
    /// Why symbols have no price, for the servers.
    pub notes: SymbolNotes,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How transient failures are repeated.
    pub backoff: Backoff,
    /// The metrics.
    pub metrics: Metrics,
    /// How it reports.
    pub options: CollectorOptions,
}

impl Collector {
    /// Collects from `ticks`, if there is a source, and reports, until `stop` is cancelled.
    /// `polled` is whether the source says the same again and again.
    /// `ended` is called when the source has no more.
    pub async fn run(
        self,
        ticks: Option<Box<dyn TickStream>>,
        polled: bool,
        health: Health,
        stop: CancellationToken,
        ended: impl FnOnce(),
    ) {
        let handle = health.component("collector");
        handle.ready();
        let collecting = async {
            let Some(ticks) = ticks else { return };
            let (door, backoff, metrics) =
                (self.door.clone(), self.backoff.clone(), self.metrics.clone());
            // A stream cannot be started over: transient failures are repeated within it.
            let mut collecting = Some(collect(ticks, polled, door, backoff, metrics, stop.clone()));
            supervise("the collector", handle, &self.backoff, &stop, || {
                let collecting = collecting.take();
                async move {
                    match collecting {
                        Some(collecting) => collecting.await,
                        None => Ok(()),
                    }
                }
            })
            .await;
            if !stop.is_cancelled() {
                ended();
            }
        };
        let notes = stop.run_until_cancelled(self.write_notes());
        tokio::join!(collecting, self.report(&stop), notes);
    }

    /// Writes what changes in the notes, several at a time.
    async fn write_notes(&self) {
        let mut attempt = 0;
        // What a collector before this one has noted, it does not know of.
        while let Err(error) = self.store.forget_notes().await {
            tracing::warn!("the notes on symbols were not forgotten: {error}");
            self.backoff.wait(attempt).await;
            attempt += 1;
        }
        attempt = 0;
        loop {
            let changes = self.notes.changes(NOTES_MAX).await;
            match self.store.note_symbols(&changes).await {
                // What changes meanwhile goes with the next ones.
                Ok(()) => (attempt, _) = (0, self.clock.sleep(NOTES_PAUSE).await),
                Err(error) => {
                    tracing::warn!("notes on symbols wait to be written: {error}");
                    self.notes.put_back(changes);
                    self.backoff.wait(attempt).await;
                    attempt += 1;
                }
            }
        }
    }

    async fn report(&self, stop: &CancellationToken) {
        let ages = AgesReport {
            ages: self.ages.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            options: self.options.clone(),
        };
        tokio::join!(ages.run(stop.clone()), stop.run_until_cancelled(self.count()));
    }

    /// States how many symbols are watched.
    async fn count(&self) {
        loop {
            if let Ok(count) = self.store.watched_count().await {
                self.metrics.set_monitored_tickers(count);
            }
            self.clock.sleep(Duration::from_secs(self.options.report_s.max(1))).await;
        }
    }
}

/// States the ages of what passes the doors of a process.
pub(super) struct AgesReport {
    pub(super) ages: Ages,
    pub(super) store: Arc<dyn CollectStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) options: CollectorOptions,
}

impl AgesReport {
    /// Reports until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        let pause = Duration::from_secs(self.options.report_s.max(1));
        loop {
            match self.store.watched().await {
                Ok(watched) => self.ages.report(
                    &self.metrics,
                    self.clock.now(),
                    &watched,
                    self.options.age_symbols_max,
                ),
                Err(error) => tracing::warn!("the watched symbols are not known: {error}"),
            }
            if stop.run_until_cancelled(self.clock.sleep(pause)).await.is_none() {
                return;
            }
        }
    }
}
