//! The traces of alerts on their way to the mail server.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::AlertId;
use crate::trace::TraceParent;

/// Traces kept; beyond, the oldest end with the acceptance of their alert.
const TRACES_MAX: usize = 4_096;

/// What is known of traced alerts until they are sent, or given up. In memory only: after a
/// restart, or when another process sends the mail, the trace has ended with the acceptance.
#[derive(Default)]
pub(super) struct Traces {
    /// How many there are: mostly none, and then nobody takes the lock.
    count: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    order: VecDeque<AlertId>,
    parents: HashMap<AlertId, TraceParent>,
}

impl Traces {
    pub(super) fn note(&self, alerts: impl IntoIterator<Item = (AlertId, TraceParent)>) {
        let mut alerts = alerts.into_iter().peekable();
        if alerts.peek().is_none() {
            return;
        }
        let mut kept = self.lock();
        for (alert, parent) in alerts {
            if kept.parents.insert(alert, parent).is_none() {
                kept.order.push_back(alert);
            }
            if kept.order.len() > TRACES_MAX
                && let Some(oldest) = kept.order.pop_front()
            {
                kept.parents.remove(&oldest);
            }
        }
        self.count.store(kept.parents.len(), Ordering::Release);
    }

    pub(super) fn of(&self, alert: &AlertId) -> Option<TraceParent> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock().parents.get(alert).copied()
    }

    /// The alert has come to its end.
    pub(super) fn forget(&self, alert: &AlertId) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut kept = self.lock();
        if kept.parents.remove(alert).is_some() {
            kept.order.retain(|kept| kept != alert);
            self.count.store(kept.parents.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Both are whole between two statements, and nothing panics in between.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_traces_are_kept() {
        let header = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(header).unwrap();
        let alert = |version: usize| format!("17-{version}-951921000000-below").parse().unwrap();
        let traces = Traces::default();
        assert_eq!(traces.of(&alert(1)), None);
        traces.note((1..=TRACES_MAX + 1).map(|version| (alert(version), parent)));
        assert_eq!(traces.of(&alert(1)), None);
        assert_eq!(traces.of(&alert(2)), Some(parent));
        traces.forget(&alert(2));
        traces.forget(&alert(2));
        assert_eq!(traces.of(&alert(2)), None);
        assert_eq!(traces.count.load(Ordering::Relaxed), TRACES_MAX - 1);
    }
}
