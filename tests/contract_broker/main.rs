//! The contract of the broker port, run by every adapter through one line.
//!
//! An adapter passes `suite` or is not done; what it cannot do is reported by name.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod limits;
mod suite;
mod support;

use std::sync::Arc;

use support::{Fixture, Limits};
use tripline::adapters::broker::memory::{MemoryBroker, MemoryBrokerOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    suite::run::<Memory>().await;
}

struct Memory;

impl Fixture for Memory {
    type Broker = MemoryBroker;
    const NAME: &'static str = "memory";
    const DURABLE: bool = false;
    const BOUNDED: bool = true;

    fn new() -> Self {
        Self
    }

    async fn open(&self, limits: Limits) -> Arc<MemoryBroker> {
        let Limits { retention_bytes, batch_bytes_max } = limits;
        Arc::new(MemoryBroker::new(MemoryBrokerOptions { retention_bytes, batch_bytes_max }))
    }

    async fn close(&self, broker: &MemoryBroker) {
        broker.close();
    }
}
