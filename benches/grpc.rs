//! The rate of `Quotes.GetQuote`, with a bearer token, against that of a call that does next to
//! nothing (`grpc.health.v1.Health/Check`) on the same server, over loopback.
//!
//! Turn and turn about in one run: what else the machine does meets both alike. The caller runs
//! beside the server on the same cores, and most of what is measured is the transport.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod common;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tripline::adapters::clock::SystemClock;
use tripline::adapters::mailer::ConsoleMailer;
use tripline::metrics::Metrics;
use tripline::model::Tick;
use tripline::node::{DataDir, Embedded, Feed};
use tripline::pipeline::clock::Clock;
use tripline::pipeline::collect::{MarketError, TickStream};
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::quotes_client::QuotesClient;
use tripline::proto::v1::{GetQuoteRequest, LoginRequest, RegisterRequest};

const CONNECTIONS: usize = 4;
const CALLS_PER_CONNECTION: usize = 16;
const ROUNDS: usize = 20;
const ROUND: Duration = Duration::from_millis(500);

/// One price of one symbol.
struct OnePrice(Option<Tick>);

#[async_trait]
impl TickStream for OnePrice {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, MarketError>> {
        Some(Ok(vec![self.0.take()?]))
    }
}

/// Connections, with the token of an account.
struct Caller {
    channels: Vec<Channel>,
    token: MetadataValue<Ascii>,
}

impl Caller {
    async fn connect(addr: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        let connect = || async { endpoint.clone().tcp_nodelay(true).connect().await.unwrap() };
        let channels = join_all((0..CONNECTIONS).map(|_| connect())).await;
        let mut accounts = AccountsClient::new(channels[0].clone());
        let (email, password) = ("ann@example.com".to_owned(), "correct horse".to_owned());
        let register = RegisterRequest { email: email.clone(), password: password.clone() };
        accounts.register(register).await.unwrap();
        let login = accounts.login(LoginRequest { email, password }).await.unwrap();
        let token = format!("Bearer {}", login.into_inner().token).parse().unwrap();
        Self { channels, token }
    }

    /// Calls for one round; returns the calls a second.
    async fn rate<F: Future<Output = ()>>(&self, call: impl Fn(Channel) -> F) -> f64 {
        let start = Instant::now();
        let callers = self.channels.iter().cycle().take(CONNECTIONS * CALLS_PER_CONNECTION);
        let callers = callers.map(|channel| async {
            let mut calls = 0u32;
            while start.elapsed() < ROUND {
                call(channel.clone()).await;
                calls += 1;
            }
            calls
        });
        let calls: u32 = join_all(callers).await.iter().sum();
        f64::from(calls) / start.elapsed().as_secs_f64()
    }

    async fn quotes(&self) -> f64 {
        self.rate(|channel| async {
            let mut request = Request::new(GetQuoteRequest { symbol: "AAPL".to_owned() });
            request.metadata_mut().insert("authorization", self.token.clone());
            let answer = QuotesClient::new(channel).get_quote(request).await.unwrap();
            assert!(answer.into_inner().quote.is_some());
        })
        .await
    }

    async fn empty(&self) -> f64 {
        self.rate(|channel| async {
            let request = HealthCheckRequest::default();
            HealthClient::new(channel).check(request).await.unwrap();
        })
        .await
    }
}

fn main() {
    let folder = support::folder();
    let settings = support::settings(folder.path());
    let server = Runtime::new().unwrap();
    let price = Tick {
        symbol: "AAPL".parse().unwrap(),
        time: SystemClock.now(),
        price: common::price(190.5),
        currency: "USD".parse().ok(),
        market: None,
    };
    let embedded = server.block_on(async {
        let feed = Feed::Stream(Box::new(OnePrice(Some(price))));
        let folder = DataDir::open(folder.path()).unwrap();
        let (mailer, metrics) = (Arc::new(ConsoleMailer::stdout()), Metrics::new("bench"));
        let embedded = Embedded::start(folder, &settings, None, mailer, feed, metrics);
        let embedded = embedded.await.unwrap();
        embedded.graph.ready(|_, _| ()).await;
        embedded
    });
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut quotes, mut empty, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    client.block_on(async {
        let caller = Caller::connect(embedded.graph.grpc_addr.unwrap()).await;
        // Longer than the price takes to be committed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        caller.empty().await;
        caller.quotes().await;
        for _ in 0..ROUNDS {
            // Each pair once in either order.
            let (e1, q1) = (caller.empty().await, caller.quotes().await);
            let (q2, e2) = (caller.quotes().await, caller.empty().await);
            quotes.push((q1 + q2) / 2.0);
            empty.push((e1 + e2) / 2.0);
            ratios.push((q1 + q2) / (e1 + e2));
        }
    });
    support::figure("grpc/quote_per_s", support::spread(&mut quotes).0);
    support::figure("grpc/empty_per_s", support::spread(&mut empty).0);
    support::figure("grpc/ratio", support::spread(&mut ratios).0);
    server.block_on(embedded.stop(Duration::from_secs(5)));
}
