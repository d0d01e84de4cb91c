//! How others tell a running sender of work.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Delivery;

/// What the loop and its handles share.
#[derive(Default)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    pub(super) changed: Notify,
    pub(super) free: AtomicU32,
}

#[derive(Default)]
pub(super) struct Inbox {
    pub(super) offered: Vec<Delivery>,
    pub(super) look: bool,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    pub(super) fn take(&self) -> Inbox {
        std::mem::take(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells a running sender of work.
#[derive(Clone)]
pub struct SenderHandle(Arc<Shared>);

impl SenderHandle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// Hands over deliveries that were just claimed in this sender's name. To be called at once
    /// after the claim, because the lease runs. A sender that has ended takes nothing: stop
    /// whatever offers first, or what it claimed waits until the lease ends.
    pub fn offer(&self, deliveries: Vec<Delivery>) {
        self.0.change(|inbox| inbox.offered.extend(deliveries));
    }

    /// Says that there may be due deliveries in the store.
    pub fn wake(&self) {
        self.0.change(|inbox| inbox.look = true);
    }

    /// How many deliveries it has room for now: what to claim for it, at most. None while the
    /// breaker is not closed or the sender is stopping.
    pub fn free(&self) -> u32 {
        self.0.free.load(Ordering::Relaxed)
    }
}
