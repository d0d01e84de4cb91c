//! The evaluator's stage: records and changes in, one evaluation to commit out.

use std::collections::HashMap;
use std::hint::black_box;

use super::symbols::Kept;
use super::{
    Applied, ChangeKind, Effects, Engine, EngineTick, Evaluation, NumberedAlert, Outcome,
    PendingChange, PricePoint, SymbolIdx, SymbolState, Traced,
};
use crate::model::{
    AlertId, AlertSeq, MarketState, Offset, Partition, Symbol, Timestamp, Watch, WatchId,
    WatchState,
};
use crate::pipeline::broker::{Placed, Record};
use crate::pipeline::record::{DecodeError, RawTick, TICKS_TOPIC, read_tick};
use crate::pipeline::stage::{Evaluate, Recent};
use crate::pipeline::store::{DeadRecord, Span};

/// What the evaluator's source yields.
#[derive(Clone, Debug)]
pub enum Input {
    /// A record of the ticks' topic.
    Record(Placed),
    /// A change of a watch or the reset of a symbol, and when it was read.
    Change(Box<PendingChange>, Timestamp),
    /// What has been evaluated is to be committed now, even if nobody waits for it.
    Flush,
}

/// What is to be committed together, if anything is.
#[derive(Debug, Default)]
pub struct Step {
    /// The stretch of the log that was evaluated; `None` when there is nothing to commit yet.
    pub span: Option<Span>,
    /// What came of it.
    pub evaluation: Evaluation,
    /// Ticks that counted.
    pub counted: u64,
    /// Ticks that were late or repeated.
    pub late: u64,
    /// Ticks in another currency than their symbol's.
    pub currency: u64,
    /// The traces of its alerts.
    pub traced: Traced,
}

/// Evaluates records and changes of one partition with an [`Engine`].
///
/// Quiet ticks are gathered until something happens, a [`Input::Flush`] comes or
/// `records_max` of them wait: their commit can be late, because they are evaluated anew after a
/// crash and make nothing. A step ends with the input that makes its `alerts_max`th alert.
pub struct Rules {
    engine: Engine,
    partition: Partition,
    dirty: Vec<SymbolIdx>,
    effects: Effects,
    step: Step,
    /// The position after the last commit, and after what was evaluated.
    committed: Offset,
    position: Offset,
    seq: AlertSeq,
    records_max: u64,
    alerts_max: usize,
    recent: Recent<AlertId>,
    /// The ticks of the next records, read but not evaluated; kept for its memory.
    ahead: Vec<ReadTick>,
}

/// The tick of a record, or why the record has none.
type ReadTick = Result<(EngineTick, Option<MarketState>), DecodeError>;

/// Alerts told by this owner that are remembered, so that none is made twice after a reset.
const RECENT_MAX: usize = 4_096;

impl Rules {
    /// An evaluator without symbols or watches that stands at `position`.
    pub fn new(
        partition: Partition,
        position: Offset,
        seq: AlertSeq,
        records_max: u64,
        alerts_max: usize,
    ) -> Self {
        Self {
            engine: Engine::new(),
            partition,
            dirty: Vec::new(),
            effects: Effects::default(),
            step: Step::default(),
            committed: position,
            position,
            seq,
            records_max,
            alerts_max: alerts_max.max(1),
            recent: Recent::new(RECENT_MAX),
            ahead: Vec::with_capacity(Engine::AHEAD),
        }
    }

    /// Takes the stored state of a symbol over.
    pub fn restore_symbol(&mut self, state: &SymbolState) {
        let idx = self.engine.symbol(state.symbol);
        self.engine.restore_symbol(idx, state.last, state.currency);
        let second = state.last.map_or(i64::MIN, |last| second(last.time));
        let (prices, market) = (state.prices, state.market);
        *self.engine.kept(idx) = Kept { prices, second, market, ..Kept::default() };
    }

    /// Takes a stored watch over. One that was changed since its state was made is left to its
    /// change, which is pending, so that what it may tell becomes part of a bounded step.
    pub fn restore_watch(&mut self, watch: &Watch, state: WatchState) {
        if state.version >= watch.version {
            self.engine.apply(watch, state, &mut self.effects);
        }
    }

    /// How many watches there are.
    pub fn watches(&self) -> usize {
        self.engine.len()
    }

    /// Evaluates some inputs; returns how many, which is less than all if the step is full.
    fn inputs(&mut self, inputs: &[Input], flush: &mut bool) -> usize {
        let mut ticks = std::mem::take(&mut self.ahead);
        self.read_ahead(inputs, &mut ticks);
        let mut reads = ticks.drain(..);
        let mut evaluated = 0;
        for input in inputs {
            if self.step.evaluation.alerts.len() >= self.alerts_max {
                break;
            }
            evaluated += 1;
            match input {
                Input::Record(placed) => {
                    if let Some(read) = reads.next() {
                        self.record(placed, read);
                    }
                }
                Input::Change(change, now) => self.change(change, *now),
                Input::Flush => *flush = true,
            }
        }
        drop(reads);
        self.ahead = ticks;
        evaluated
    }

    /// Reads the ticks of some inputs, and early what the inputs will touch.
    fn read_ahead(&mut self, inputs: &[Input], ticks: &mut Vec<ReadTick>) {
        ticks.clear();
        // The symbols first and by themselves, so that they wait for memory together.
        let mut symbols = [None; Engine::AHEAD];
        let records = || inputs.iter().filter_map(record_of);
        for (symbol, record) in symbols.iter_mut().zip(records()) {
            *symbol = self.engine.find(record.key.as_deref().unwrap_or_default());
        }
        let touch = |read, symbol: &SymbolIdx| read ^ self.engine.touch(*symbol);
        black_box(symbols.iter().flatten().fold(0, touch));
        for (symbol, record) in symbols.iter().zip(records()) {
            let raw = read_tick(record);
            ticks.push(raw.and_then(|raw| Ok((self.engine_tick(raw, *symbol)?, raw.market))));
        }
        self.engine.look_ahead(ticks.iter().flatten().map(|(tick, _)| tick));
        // Most inputs are ticks.
        if ticks.len() < inputs.len() {
            self.engine.look_ahead_changes(inputs.iter().filter_map(changed_watch));
        }
    }

    fn record(&mut self, placed: &Placed, read: ReadTick) {
        // A source that was started over may yield what was evaluated before.
        if placed.offset < self.position {
            return;
        }
        self.position = placed.offset.next();
        let record = &placed.record;
        match read {
            Ok((tick, market)) => {
                let before = self.seq;
                self.tick(tick, market, record.time);
                if self.seq != before {
                    self.step.traced.note(record, before, self.seq);
                }
            }
            Err(error) => self.step.evaluation.dead.push(DeadRecord {
                topic: TICKS_TOPIC.to_owned(),
                partition: self.partition,
                offset: placed.offset,
                reason: error.to_string(),
                key: record.key.clone(),
                value: record.value.clone(),
            }),
        }
    }

    /// The tick with its names as the engine has them.
    fn engine_tick(
        &mut self,
        raw: RawTick<'_>,
        symbol: Option<SymbolIdx>,
    ) -> Result<EngineTick, DecodeError> {
        let currency = self.engine.currency(raw.currency);
        let symbol = match symbol {
            Some(symbol) => symbol,
            None => self.engine.symbol(raw.symbol()?),
        };
        Ok(EngineTick { time: raw.time, price: raw.price, symbol, currency })
    }

    fn tick(&mut self, tick: EngineTick, market: Option<MarketState>, accepted: Timestamp) {
        match self.engine.tick(tick, &mut self.effects) {
            Outcome::Late => self.step.late += 1,
            Outcome::Currency => self.step.currency += 1,
            Outcome::Counted => {
                self.step.counted += 1;
                self.keep(tick, market);
                if !self.effects.alerts.is_empty() {
                    self.number_alerts(accepted);
                }
            }
        }
    }

    /// Keeps the tick's price for the history, the last one of each second, and its market's state.
    fn keep(&mut self, tick: EngineTick, market: Option<MarketState>) {
        let prices = &mut self.step.evaluation.prices;
        let kept = self.engine.kept(tick.symbol);
        let newly_dirty = !std::mem::replace(&mut kept.dirty, true);
        kept.market = market;
        let second = second(tick.time);
        if kept.second == second && kept.point > 0 {
            let point = &mut prices[kept.point as usize - 1];
            (point.time, point.price) = (tick.time, tick.price);
        } else {
            kept.prices += u64::from(kept.second != second);
            kept.second = second;
            // There are far fewer points in a step than records_max allows records.
            kept.point = u32::try_from(prices.len() + 1).unwrap_or(0);
            let (number, time, price) = (kept.prices, tick.time, tick.price);
            let symbol = self.engine.name(tick.symbol);
            prices.push(PricePoint { symbol, number, time, price });
        }
        if newly_dirty {
            self.dirty.push(tick.symbol);
        }
    }

    fn number_alerts(&mut self, accepted: Timestamp) {
        for alert in self.effects.alerts.drain(..) {
            if self.recent.insert(alert.id) {
                self.seq = AlertSeq(self.seq.0 + 1);
                let numbered = NumberedAlert { seq: self.seq, alert, accepted };
                self.step.evaluation.alerts.push(numbered);
            }
        }
    }

    fn change(&mut self, change: &PendingChange, now: Timestamp) {
        let idx = self.engine.symbol(change.symbol);
        let last = self.engine.last(idx);
        let watch = match change.what {
            ChangeKind::Watch { watch, current: None } => {
                self.engine.remove(change.symbol, watch);
                None
            }
            ChangeKind::Watch { current: Some((watch, state)), .. } => {
                self.engine.apply(&watch, state, &mut self.effects);
                Some((watch.id, watch.version))
            }
            ChangeKind::Reset => {
                self.engine.reset_symbol(change.symbol, &mut self.effects);
                let kept = self.engine.kept(idx);
                (kept.second, kept.market) = (i64::MIN, None);
                if !std::mem::replace(&mut kept.dirty, true) {
                    self.dirty.push(idx);
                }
                None
            }
        };
        self.number_alerts(now);
        self.step.evaluation.applied.push(Applied {
            id: change.id,
            symbol: change.symbol,
            watch,
            after: last.map(|last| last.time),
        });
    }

    fn someone_waits(&self) -> bool {
        let evaluation = &self.step.evaluation;
        !evaluation.alerts.is_empty()
            || !evaluation.applied.is_empty()
            || !evaluation.dead.is_empty()
    }

    /// Hands over what is to be committed.
    fn emit(&mut self, out: &mut Step) {
        let unchanged = self.position == self.committed && !self.someone_waits();
        if unchanged {
            return;
        }
        *out = std::mem::take(&mut self.step);
        out.span = Some(Span { from: self.committed, to: self.position });
        self.committed = self.position;
        // The last state of a watch counts.
        let states: HashMap<WatchId, WatchState> = self.effects.states.drain(..).collect();
        out.evaluation.states = states.into_iter().collect();
        out.evaluation.states.sort_unstable_by_key(|(watch, _)| *watch);
        for idx in self.dirty.drain(..) {
            let kept = self.engine.kept(idx);
            (kept.dirty, kept.point) = (false, 0);
            let (market, prices) = (kept.market, kept.prices);
            out.evaluation.symbols.push(SymbolState {
                symbol: self.engine.name(idx),
                last: self.engine.last(idx),
                currency: self.engine.pinned(idx),
                market,
                prices,
            });
        }
    }
}

fn second(time: Timestamp) -> i64 {
    time.millis().div_euclid(1_000)
}

fn record_of(input: &Input) -> Option<&Record> {
    if let Input::Record(placed) = input { Some(&placed.record) } else { None }
}

/// The watch that an input adds, changes or removes, and its symbol.
fn changed_watch(input: &Input) -> Option<(Symbol, WatchId)> {
    let Input::Change(change, _) = input else { return None };
    match change.what {
        ChangeKind::Watch { watch, .. } => Some((change.symbol, watch)),
        ChangeKind::Reset => None,
    }
}

impl Evaluate<Input> for Rules {
    type Out = Step;

    fn evaluate(&mut self, batch: &mut Vec<Input>, out: &mut Step) {
        let mut flush = false;
        let mut taken = 0;
        // Not taken out one by one, so that the batch keeps its memory for the next one.
        for inputs in batch.chunks(Engine::AHEAD) {
            let evaluated = self.inputs(inputs, &mut flush);
            taken += evaluated;
            if evaluated < inputs.len() {
                break;
            }
        }
        batch.drain(..taken);
        if flush || self.someone_waits() || self.position.0 - self.committed.0 >= self.records_max {
            self.emit(out);
        }
    }
}
