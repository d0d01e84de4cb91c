//! What is ready: each component of the process says so for itself, and `/readyz` tells.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Why a component is not ready that has not said anything yet.
const STARTING: &str = "it is starting";

/// The registry of a process's components. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Why each component is not ready; `None` for one that is.
    components: Mutex<BTreeMap<String, Option<String>>>,
    /// Raised with every change.
    changes: watch::Sender<u64>,
}

impl Health {
    /// A registry without components, which is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a component, which is not ready until its handle says so. Entering a name again
    /// gives another handle to the same component and leaves its state as it is.
    pub fn component(&self, name: &str) -> Handle {
        self.enter(name, Some(STARTING))
    }

    /// Enters a component that counts as ready until its handle says otherwise: for what comes
    /// and goes while the process serves.
    pub fn passing(&self, name: &str) -> Handle {
        self.enter(name, None)
    }

    fn enter(&self, name: &str, reason: Option<&str>) -> Handle {
        self.lock().entry(name.to_owned()).or_insert_with(|| reason.map(str::to_owned));
        self.inner.changes.send_modify(|change| *change += 1);
        Handle { health: self.clone(), name: name.to_owned() }
    }

    /// The components that are not ready, by name, each with the reason.
    pub fn not_ready(&self) -> BTreeMap<String, String> {
        self.lock()
            .iter()
            .filter_map(|(name, reason)| Some((name.clone(), reason.clone()?)))
            .collect()
    }

    /// Waits until every component is ready, which one that failed for good never is. `tell` is
    /// called with the name and the reason of each that says why it is not, once a reason.
    pub async fn ready(&self, mut tell: impl FnMut(&str, &str)) {
        let mut changes = self.changes();
        let mut told = BTreeMap::new();
        loop {
            let not_ready = self.not_ready();
            for (name, reason) in &not_ready {
                if reason != STARTING && told.get(name) != Some(reason) {
                    tell(name, reason);
                    told.insert(name.clone(), reason.clone());
                }
            }
            // The sender lives as long as `self`, so this cannot fail.
            if not_ready.is_empty() || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether every component is ready.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    /// Wakes its holder after every change of a component's state.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        // Nothing panics while it holds the lock, and a map is whole between two statements.
        self.inner.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &str, reason: Option<&str>) {
        let mut components = self.lock();
        let Some(state) = components.get_mut(name) else { return };
        if state.as_deref() == reason {
            return;
        }
        *state = reason.map(str::to_owned);
        drop(components);
        self.inner.changes.send_modify(|change| *change += 1);
    }
}

/// With this a component says how it is. Cheap enough to be called in every round of a loop:
/// only a change does more than one look.
#[derive(Clone, Debug)]
pub struct Handle {
    health: Health,
    name: String,
}

impl Handle {
    /// It is ready.
    pub fn ready(&self) {
        self.health.set(&self.name, None);
    }

    /// It is not ready, for this reason, which operators read.
    pub fn not_ready(&self, reason: &str) {
        self.health.set(&self.name, Some(reason));
    }

    /// It is no part of the process any more, and nobody waits for it.
    pub fn gone(&self) {
        if self.health.lock().remove(&self.name).is_some() {
            self.health.inner.changes.send_modify(|change| *change += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_once_what_is_in_the_way() {
        let health = Health::new();
        let (store, feed) = (health.component("store"), health.component("feed"));
        let mut told = Vec::new();
        let mut ready = Box::pin(health.ready(|name, why| told.push(format!("{name}: {why}"))));
        assert!(futures::poll!(&mut ready).is_pending(), "starting is no news");
        for reason in ["locked", "locked", "full"] {
            store.not_ready(reason);
            assert!(futures::poll!(&mut ready).is_pending());
        }
        feed.ready();
        store.ready();
        ready.await;
        assert_eq!(told, ["store: locked", "store: full"]);
    }

    #[test]
    fn a_process_is_ready_when_every_component_is() {
        let health = Health::new();
        assert!(health.is_ready());
        let (store, feed) = (health.component("store"), health.component("feed"));
        let mut changes = health.changes();
        changes.mark_unchanged();
        store.ready();
        assert!(changes.has_changed().unwrap());
        assert_eq!(health.not_ready()["feed"], "it is starting");
        feed.ready();
        changes.mark_unchanged();
        feed.ready();
        assert!(health.is_ready() && !changes.has_changed().unwrap());
        feed.not_ready("the broker is away");
        health.component("feed");
        assert_eq!(health.not_ready()["feed"], "the broker is away");
        assert_eq!(health.not_ready().len(), 1);
        feed.gone();
        assert!(health.is_ready());
        feed.not_ready("it is no part any more");
        let guest = health.passing("guest");
        assert!(health.is_ready());
        guest.not_ready("it failed");
        assert_eq!(health.not_ready()["guest"], "it failed");
    }
}
