//! Running a pipeline: one batch after the other, each committed before it is told.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::clock::{Clock, Random};
use super::stage::{
    Dedupe, Evaluate, Everything, Flow, Journal, NoJournal, Notify, Source, StageError,
};

/// How transient failures are repeated: after `first`, then twice as long each time up to
/// `longest`, with jitter, until it works or the pipeline is stopped.
#[derive(Clone)]
pub struct Backoff {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits between 50 ms and 5 s.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (first, longest) = (Duration::from_millis(50), Duration::from_secs(5));
        Self { clock, random, first, longest }
    }

    /// Waits before repetition `attempt`, counted from 0. Cancel-safe.
    pub async fn wait(&self, attempt: u32) {
        let delay = self.first.saturating_mul(1 << attempt.min(20)).min(self.longest);
        self.clock.sleep(self.random.jitter(delay)).await;
    }
}

/// A pipeline whose stages are chosen one after the other; see [`Pipeline::from`].
pub struct Pipeline<S, E = (), D = Everything, J = NoJournal> {
    source: S,
    evaluate: E,
    dedupe: D,
    journal: J,
}

impl<S: Source> Pipeline<S> {
    /// A pipeline that takes its records from `source`.
    pub fn from(source: S) -> Self {
        Self { source, evaluate: (), dedupe: Everything, journal: NoJournal }
    }

    /// Evaluates the records with `rule`.
    pub fn evaluate<E: Evaluate<S::Item>>(self, rule: E) -> Pipeline<S, E> {
        let Self { source, dedupe, journal, .. } = self;
        Pipeline { source, evaluate: rule, dedupe, journal }
    }
}

impl<S: Source, E: Evaluate<S::Item>, D, J> Pipeline<S, E, D, J> {
    /// Takes repetitions away.
    pub fn dedupe<D2: Dedupe<E::Out>>(self, dedupe: D2) -> Pipeline<S, E, D2, J> {
        let Self { source, evaluate, journal, .. } = self;
        Pipeline { source, evaluate, dedupe, journal }
    }

    /// Commits each batch before it is told.
    pub fn journal<J2: Journal<E::Out>>(self, journal: J2) -> Pipeline<S, E, D, J2> {
        let Self { source, evaluate, dedupe, .. } = self;
        Pipeline { source, evaluate, dedupe, journal }
    }

    /// Tells what is left, with `sink`: the pipeline is complete.
    pub fn notify<N: Notify<E::Out>>(self, sink: N) -> Complete<S, E, D, J, N> {
        Complete { stages: self, sink, backoff: None }
    }
}

/// A pipeline with all its stages.
pub struct Complete<S, E, D, J, N> {
    stages: Pipeline<S, E, D, J>,
    sink: N,
    backoff: Option<Backoff>,
}

impl<S, E, D, J, N> Complete<S, E, D, J, N>
where
    S: Source,
    E: Evaluate<S::Item>,
    D: Dedupe<E::Out>,
    J: Journal<E::Out>,
    N: Notify<E::Out>,
{
    /// Repeats what fails for a while. Without this the first failure ends the pipeline.
    #[must_use]
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Runs until the source ends, a stage fails for good, or `stop` is cancelled. A batch that
    /// was taken is carried through to the end first, unless its commit keeps failing.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StageError> {
        let mut batch = Vec::new();
        let mut flow = Flow::More;
        while flow == Flow::More || !batch.is_empty() {
            if batch.is_empty() {
                flow = match self.next(&mut batch, &stop).await? {
                    Some(flow) => flow,
                    None => return Ok(()),
                };
            } else if stop.is_cancelled() {
                return Ok(());
            }
            let mut out = E::Out::default();
            self.stages.evaluate.evaluate(&mut batch, &mut out);
            self.stages.dedupe.dedupe(&mut out);
            let backoff = self.backoff.as_ref();
            let mut attempt = 0;
            while let Err(error) = self.stages.journal.commit(&mut out).await {
                retry(backoff, &stop, &mut attempt, error).await?;
            }
            let mut attempt = 0;
            while let Err(error) = self.sink.notify(&mut out).await {
                retry(backoff, &stop, &mut attempt, error).await?;
            }
        }
        Ok(())
    }

    async fn next(
        &mut self,
        batch: &mut Vec<S::Item>,
        stop: &CancellationToken,
    ) -> Result<Option<Flow>, StageError> {
        let mut attempt = 0;
        loop {
            let next = self.stages.source.next(batch);
            match until_stopped(stop, next).await {
                None => return Ok(None),
                Some(Ok(flow)) => return Ok(Some(flow)),
                Some(Err(error)) => retry(self.backoff.as_ref(), stop, &mut attempt, error).await?,
            }
        }
    }
}

async fn until_stopped<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        value = future => Some(value),
    }
}

async fn retry(
    backoff: Option<&Backoff>,
    stop: &CancellationToken,
    attempt: &mut u32,
    error: StageError,
) -> Result<(), StageError> {
    let (Some(backoff), StageError::Transient(reason)) = (backoff, &error) else {
        return Err(error);
    };
    tracing::warn!(attempt = *attempt + 1, "trying again: {reason}");
    match until_stopped(stop, backoff.wait(*attempt)).await {
        Some(()) => {
            *attempt += 1;
            Ok(())
        }
        None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::adapters::clock::{SeededRandom, SystemClock};
    use crate::pipeline::stage::{changes, each, from_stream, to_each};

    #[tokio::test]
    async fn tells_each_change_of_state_once() {
        let told = Mutex::new(Vec::new());
        let readings = [("a", 1), ("a", 2), ("b", 9), ("a", 9), ("a", 8), ("b", 1)];
        Pipeline::from(from_stream(futures::stream::iter(readings)))
            .evaluate(each(|(name, value)| Some((name, value > 5))))
            .dedupe(changes(|(name, high): &(&str, bool)| (*name, *high)))
            .notify(to_each(|item: &(&str, bool)| told.lock().unwrap().push(*item)))
            .run(CancellationToken::new())
            .await
            .unwrap();
        let expected = vec![("a", false), ("b", true), ("a", true), ("b", false)];
        assert_eq!(told.into_inner().unwrap(), expected);
    }

    struct Flaky(u32);

    #[async_trait]
    impl Journal<Vec<u32>> for Flaky {
        async fn commit(&mut self, _: &mut Vec<u32>) -> Result<(), StageError> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Err(StageError::Transient("busy".into()))
                }
                None => Ok(()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_what_fails_for_a_while_and_tells_only_what_is_committed() {
        let backoff = Backoff::new(Arc::new(SystemClock), Arc::new(SeededRandom::new(1)));
        for (failures, backoff, expected) in
            [(3, Some(backoff), Ok(vec![7])), (1, None, Err(StageError::Transient("busy".into())))]
        {
            let told = Mutex::new(Vec::new());
            let pipeline = Pipeline::from(from_stream(futures::stream::iter([7])))
                .evaluate(each(Some))
                .journal(Flaky(failures))
                .notify(to_each(|item: &u32| told.lock().unwrap().push(*item)));
            let pipeline = match backoff {
                Some(backoff) => pipeline.retry(backoff),
                None => pipeline,
            };
            let result = pipeline.run(CancellationToken::new()).await;
            assert_eq!(result.map(|()| told.lock().unwrap().clone()), expected);
        }
    }
}
