//! The contract of the broker port, run by every adapter through one line.
//!
//! An adapter passes `suite` or is not done; what it cannot do is reported by name.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod kafka;
mod limits;
mod model;
mod sqlite;
mod suite;
mod support;

use std::path::PathBuf;
use std::sync::Arc;

use support::{Fixture, Limits};
use tripline::adapters::broker::memory::{MemoryBroker, MemoryBrokerOptions};
use tripline::adapters::broker::sqlite::{SqliteLog, SqliteLogOptions};
use tripline::adapters::clock::SystemClock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    suite::run::<Memory>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_log() {
    suite::run::<Sqlite>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_one_broker() {
    kafka::run::<kafka::One>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_three_brokers() {
    kafka::run::<kafka::Three>().await;
}

struct Memory;

impl Fixture for Memory {
    type Broker = MemoryBroker;
    const NAME: &'static str = "memory";
    const DURABLE: bool = false;
    const BOUNDED: bool = true;
    const HEADERS_REPEAT: bool = true;

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

struct Sqlite {
    directory: tempfile::TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.directory.path().join("log.db")
    }
}

impl Fixture for Sqlite {
    type Broker = SqliteLog;
    const NAME: &'static str = "sqlite log";
    const DURABLE: bool = true;
    const BOUNDED: bool = true;
    const HEADERS_REPEAT: bool = true;

    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, limits: Limits) -> Arc<SqliteLog> {
        let Limits { retention_bytes, batch_bytes_max } = limits;
        let options = SqliteLogOptions {
            retention_bytes,
            batch_bytes_max,
            // Small, so that reads come from the file too.
            tail_bytes_per_partition: 200,
            ..SqliteLogOptions::default()
        };
        Arc::new(SqliteLog::open(&self.path(), options, Arc::new(SystemClock)).await.unwrap())
    }

    async fn close(&self, broker: &SqliteLog) {
        broker.close().await;
    }
}
