//! How long after a tick was accepted its mail is handed to the mailer: the whole embedded graph
//! over real files, 1,000 ticks a second, one in a hundred of which tells an alert.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;
#[path = "common/paced.rs"]
mod paced;
mod support;

use std::sync::Arc;
use std::time::Duration;

use common::Market;
use paced::{Paced, Recorder, Shared};
use tripline::metrics::Metrics;
use tripline::node::{DataDir, Embedded, Feed, Import};

async fn run(book: Shared) {
    let folder = support::folder();
    let settings = support::settings(folder.path());
    let mut market = Market::default();
    let import = Some(Import { content: [0; 32], watches: paced::watches(&mut market) });
    let feed = Feed::Stream(Box::new(Paced::new(book.clone(), &mut market)));
    let mailer = Arc::new(Recorder(book.clone()));
    let folder = DataDir::open(folder.path()).unwrap();
    let metrics = Metrics::new("bench");
    let embedded = Embedded::start(folder, &settings, import, mailer, feed, metrics).await.unwrap();
    embedded.graph.feed_ended.cancelled().await;
    paced::complete(&book).await;
    assert!(embedded.stop(Duration::from_secs(10)).await);
}

fn main() {
    let book = Shared::default();
    tokio::runtime::Runtime::new().unwrap().block_on(run(book.clone()));
    paced::report("latency", &book.lock().unwrap());
}
