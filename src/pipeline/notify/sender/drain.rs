//! How the delivery loop ends: what is in flight may finish, the rest goes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::pipeline::store::StoreError;

use futures::StreamExt as _;

use super::{DeliveryId, Held, Sender, finish};

impl Sender {
    /// Takes at most twice `drain_ms`: once for the attempts, once for the store.
    pub(super) async fn drain(mut self) -> Result<(), StoreError> {
        self.shared.free.store(0, Ordering::Relaxed);
        let clock = Arc::clone(&self.ports.clock);
        let bound = Duration::from_millis(self.options.drain_ms);
        let mut over = clock.sleep(bound);
        loop {
            self.give_back_waiting();
            self.start_settling(clock.now());
            if self.attempts.is_empty() && self.claiming.is_none() {
                break;
            }
            tokio::select! {
                Some(ended) = self.attempts.next() => self.end(ended),
                claimed = finish(&mut self.claiming) => self.claimed(claimed)?,
                settled = finish(&mut self.settling) => self.settled(settled)?,
                () = self.shared.changed.notified() => {}
                () = &mut over => break,
            }
        }
        self.give_back_sending();
        let mut over = clock.sleep(bound);
        loop {
            let now = clock.now();
            self.start_settling(now);
            if self.settling.is_none() && self.unsettled.is_empty() {
                break;
            }
            let pause = self.pause(now);
            tokio::select! {
                settled = finish(&mut self.settling) => self.settled(settled)?,
                () = clock.sleep(pause), if self.settling.is_none() => {}
                () = &mut over => {
                    tracing::warn!(
                        deliveries = self.held.len(),
                        "stopped before the store recorded them: they are due when their lease ends"
                    );
                    break;
                }
            }
        }
        self.report();
        self.shared.free.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn give_back_waiting(&mut self) {
        let now = self.ports.clock.now();
        self.take_offered(now);
        while let Some(waiting) = self.waiting.pop_front() {
            self.give_back(waiting.delivery.id, now, "the sender was stopped");
        }
    }

    /// Ends the attempts that took too long. A mail may have been taken all the same; then it is
    /// sent once more, with the same Message-ID.
    fn give_back_sending(&mut self) {
        self.attempts.clear();
        let now = self.ports.clock.now();
        let sending: Vec<DeliveryId> = self
            .held
            .iter()
            .filter(|(_, held)| **held == Held::Sending)
            .map(|(id, _)| *id)
            .collect();
        for id in sending {
            self.give_back(id, now, "the sender was stopped during the attempt");
        }
    }
}
