//! How long after a tick was accepted its mail is handed to the mailer, with the nodes apart: over
//! a real Kafka of three brokers and a real MySQL or MariaDB, 1,000 ticks a second, one in a
//! hundred of which tells an alert.
//!
//! The evaluator is a process of its own. The collector and the notifier, whose clock must be one,
//! are two in this process, with connections of their own: they share nothing else.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod common;
#[path = "../tests/support/mysql_server.rs"]
mod mysql_server;
#[path = "common/paced.rs"]
mod paced;
#[path = "../tests/support/process.rs"]
mod process;
mod production;
mod support;

use std::sync::Arc;
use std::time::Duration;

use common::Market;
use mysql_server::Database;
use paced::{Paced, Recorder, Shared};
use process::Serve;
use production::Kafka;
use tokio::runtime::Runtime;
use tripline::adapters::mailer::ConsoleMailer;
use tripline::metrics::Metrics;
use tripline::node::{Feed, Import, Process};
use tripline::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

async fn run(kafka: &Kafka, database: &Database, book: &Shared) {
    let folder = support::folder();
    let options = [
        format!("kafka.bootstrap={}", kafka.bootstrap),
        format!("topics.prefix={}", kafka.prefix),
        format!("topics.group={}", kafka.prefix),
        "topics.partitions=1".to_owned(),
        format!("mysql.url={}", database.url()),
    ];
    let node = |roles: &str| {
        let roles = [format!("graph.roles={roles}")];
        support::settings_with(folder.path(), &[&options[..], &roles].concat())
    };
    let mut market = Market::default();
    let import = Some(Import { content: [0; 32], watches: paced::watches(&mut market) });
    let mailer = Arc::new(Recorder(book.clone()));
    let metrics = Metrics::new("bench");
    let settings = node("notifier");
    let notifier = Process::start(&settings, import, mailer, Feed::None, metrics).await.unwrap();

    let mut flags = vec!["--roles", "evaluator"];
    flags.extend(options.iter().flat_map(|option| ["--set", option]));
    let mut evaluator = Serve::launch_with(&folder.path().join("evaluator"), &flags, &[], &[]);
    evaluator.ready().await;

    let feed = Feed::Stream(Box::new(Paced::new(book.clone(), &mut market)));
    let mailer = Arc::new(ConsoleMailer::stdout());
    let metrics = Metrics::new("bench");
    let settings = node("collector");
    let collector = Process::start(&settings, None, mailer, feed, metrics).await.unwrap();
    collector.graph.feed_ended.cancelled().await;
    paced::complete(book).await;
    assert!(collector.stop(Duration::from_secs(10)).await);
    assert!(notifier.stop(Duration::from_secs(10)).await);
    evaluator.stop().await;
}

fn main() {
    let book = Shared::default();
    let ran = Runtime::new().unwrap().block_on(async {
        let mut kafka = Kafka::find()?;
        let database = Database::create().await?;
        kafka.warm().await;
        for topic in [TICKS_TOPIC, ALERTS_TOPIC] {
            kafka.topic(topic, 1).await;
        }
        run(&kafka, &database, &book).await;
        kafka.clean().await;
        Some(())
    });
    if ran.is_some() {
        paced::report("split", &book.lock().unwrap());
    }
}
