//! The graph in one process: the nodes of its roles, joined by the ports that they are given.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::collector::AgesReport;
use super::parts::{Feed, GraphOptions, Shared, StartError, Stores};
use super::{Admin, Ages, Collector, Role, Share, create_topics, evaluate, notify};
use crate::health::Health;
use crate::pipeline::Backoff;
use crate::pipeline::collect::{Door, LogDoor, Poller, PollerPorts, SymbolNotes, TickStream};
use crate::pipeline::evaluate::EvaluatorPorts;
use crate::pipeline::notify::{Mailer, NotifierPorts, Sender, SenderPorts};
use crate::server::cache::RequestCache;
use crate::server::secret::SecretKey;
use crate::server::{self, Server, ServerError, http};

/// A graph that runs.
pub struct Graph {
    /// Where gRPC is served, if the server is one of the roles.
    pub grpc_addr: Option<SocketAddr>,
    /// Where the HTTP pages are served.
    pub http_addr: SocketAddr,
    /// Cancelled when the feed has no more.
    pub feed_ended: CancellationToken,
    health: Health,
    stop_entry: CancellationToken,
    stop_rest: CancellationToken,
    entry: Vec<JoinHandle<()>>,
    rest: Vec<JoinHandle<()>>,
}

impl Graph {
    /// Starts the nodes. They get ready by themselves; see [`ready`](Self::ready).
    pub async fn start(
        shared: Shared,
        stores: Stores,
        cache: Arc<dyn RequestCache>,
        secret: SecretKey,
        mailer: Arc<dyn Mailer>,
        feed: Feed,
        options: GraphOptions,
    ) -> Result<Self, StartError> {
        let (broker, store) = (shared.broker.as_ref(), &*stores.evaluate);
        create_topics(broker, store, options.topics.partitions).await?;
        let mut starting = Starting::new(shared, stores, options);
        // The notifier first: its sender's options may be refused, and nothing runs yet.
        starting.notifier(mailer)?;
        let addresses = starting.server(cache, secret, &feed).await?;
        starting.evaluator();
        starting.admin();
        starting.collector(feed);
        Ok(starting.finish(addresses))
    }

    /// Waits until every node is ready, which one that failed for good never is; see
    /// [`Health::ready`].
    pub async fn ready(&self, tell: impl FnMut(&str, &str)) {
        self.health.ready(tell).await;
    }

    /// Stops: what enters first, then what works on it. Returns whether all had ended within
    /// `patience`; what had not is cut off, as a crash would, and goes on at the next start.
    pub async fn stop(self, patience: Duration) -> bool {
        let end = |tasks| tokio::time::timeout(patience / 2, futures::future::join_all(tasks));
        self.stop_entry.cancel();
        let entry = end(self.entry).await.is_ok();
        self.stop_rest.cancel();
        end(self.rest).await.is_ok() && entry
    }
}

/// A graph of which some nodes run already.
struct Starting {
    shared: Shared,
    stores: Stores,
    options: GraphOptions,
    backoff: Backoff,
    ages: Ages,
    door: Arc<dyn Door>,
    graph: Graph,
}

impl Starting {
    fn new(shared: Shared, stores: Stores, options: GraphOptions) -> Self {
        let (clock, metrics) = (shared.clock.clone(), shared.metrics.clone());
        let partitions = options.topics.partitions;
        let door_options = options.door.clone();
        let door = LogDoor::new(shared.broker.clone(), clock, metrics, partitions, door_options);
        let ages = Ages::default();
        Self {
            backoff: Backoff::new(shared.clock.clone(), shared.random.clone()),
            door: ages.noting(Arc::new(door)),
            ages,
            graph: Graph {
                grpc_addr: None,
                http_addr: options.server.http.listen,
                feed_ended: CancellationToken::new(),
                health: shared.health.clone(),
                stop_entry: CancellationToken::new(),
                stop_rest: CancellationToken::new(),
                entry: Vec::new(),
                rest: Vec::new(),
            },
            shared,
            stores,
            options,
        }
    }

    /// This process's share of a topic.
    fn share(&self) -> Share {
        Share {
            membership: self.shared.membership.clone(),
            member: self.shared.owner.clone(),
            options: self.options.members,
            partitions: self.options.topics.partitions,
            health: self.shared.health.clone(),
            stop: self.graph.stop_rest.clone(),
        }
    }

    fn notifier(&mut self, mailer: Arc<dyn Mailer>) -> Result<(), StartError> {
        if !self.options.roles.has(Role::Notifier) {
            return Ok(());
        }
        let Shared { broker, clock, random, metrics, owner, .. } = self.shared.clone();
        let store = self.stores.notify.clone();
        let ports = SenderPorts {
            store: store.clone(),
            mailer,
            clock: clock.clone(),
            random,
            metrics: metrics.clone(),
        };
        let (sender, handle) = Sender::new(ports, self.options.deliver.clone(), &owner)?;
        let ports = NotifierPorts {
            broker,
            store,
            sender: handle,
            claimant: sender.claimant().clone(),
            clock,
            backoff: self.backoff.clone(),
            metrics,
            group: self.options.topics.group.clone(),
            read_bytes_max: self.options.notify.read_bytes_max,
        };
        self.graph.rest.push(tokio::spawn(notify(ports, sender, self.share())));
        Ok(())
    }

    async fn server(
        &mut self,
        cache: Arc<dyn RequestCache>,
        secret: SecretKey,
        feed: &Feed,
    ) -> Result<(Option<SocketAddr>, SocketAddr), StartError> {
        let Shared { broker, clock, random, metrics, health, pages, .. } = self.shared.clone();
        let options = self.options.server.clone();
        let stop = self.graph.stop_entry.clone();
        if !self.options.roles.has(Role::Server) {
            if let Some(pages) = pages {
                return Ok((None, pages.addr));
            }
            let (pages, http) = http::start(&options.http, metrics, health, stop).await?;
            self.graph.entry.push(tokio::spawn(log_end(http)));
            return Ok((None, pages.addr));
        }
        let ports = server::Ports {
            commands: self.stores.commands.clone(),
            accounts: self.stores.accounts.clone(),
            queries: self.stores.queries.clone(),
            operator: self.stores.operator.clone(),
            cache,
            broker,
            door: self.door.clone(),
            market: match feed {
                Feed::Polled(quotes) => Some(quotes.clone()),
                Feed::None | Feed::Stream(_) => None,
            },
            clock,
            random,
            secret,
            metrics,
            health,
            pages,
        };
        let running = Server::start(options, ports, stop.clone()).await?;
        if !self.options.roles.has(Role::Collector) {
            self.graph.entry.push(tokio::spawn(self.pushed_ages().run(stop)));
        }
        self.graph.entry.push(tokio::spawn(log_end(running.join)));
        Ok((Some(running.grpc_addr), running.http_addr))
    }

    /// The ages of what is pushed, in a process without a collector, which would state them.
    fn pushed_ages(&self) -> AgesReport {
        AgesReport {
            ages: self.ages.clone(),
            store: self.stores.collect.clone(),
            clock: self.shared.clock.clone(),
            metrics: self.shared.metrics.clone(),
            options: self.options.collector.clone(),
        }
    }

    fn evaluator(&mut self) {
        if !self.options.roles.has(Role::Evaluator) {
            return;
        }
        let Shared { broker, clock, metrics, .. } = self.shared.clone();
        let ports = EvaluatorPorts {
            broker,
            store: self.stores.evaluate.clone(),
            clock,
            backoff: self.backoff.clone(),
            metrics,
            group: self.options.topics.group.clone(),
            alert_partitions: self.options.topics.partitions,
            options: self.options.evaluate.clone(),
        };
        self.graph.rest.push(tokio::spawn(evaluate(ports, self.share())));
    }

    fn admin(&mut self) {
        if !self.options.roles.has(Role::Admin) {
            return;
        }
        let Shared { broker, clock, metrics, .. } = self.shared.clone();
        let admin = Admin {
            broker,
            store: self.stores.operator.clone(),
            clock,
            metrics,
            partitions: self.options.topics.partitions,
            options: self.options.admin.clone(),
        };
        self.graph.rest.push(tokio::spawn(admin.run(self.graph.stop_rest.clone())));
    }

    fn collector(&mut self, feed: Feed) {
        if !self.options.roles.has(Role::Collector) {
            return;
        }
        let Shared { clock, random, metrics, health, .. } = self.shared.clone();
        let polled = matches!(feed, Feed::Polled(_));
        let notes = SymbolNotes::new(self.options.symbol_notes_max);
        let ticks: Option<Box<dyn TickStream>> = match feed {
            Feed::None => None,
            Feed::Stream(stream) => Some(stream),
            Feed::Polled(quotes) => {
                let ports = PollerPorts {
                    quotes,
                    store: self.stores.collect.clone(),
                    clock: clock.clone(),
                    random,
                    metrics: metrics.clone(),
                    notes: notes.clone(),
                };
                Some(Box::new(Poller::new(ports, self.options.poller.clone())))
            }
        };
        let collector = Collector {
            door: self.door.clone(),
            store: self.stores.collect.clone(),
            ages: self.ages.clone(),
            notes,
            clock,
            backoff: self.backoff.clone(),
            metrics,
            options: self.options.collector.clone(),
        };
        let (stop, ended) = (self.graph.stop_entry.clone(), self.graph.feed_ended.clone());
        let run = collector.run(ticks, polled, health, stop, move || ended.cancel());
        self.graph.entry.push(tokio::spawn(run));
    }

    fn finish(self, (grpc_addr, http_addr): (Option<SocketAddr>, SocketAddr)) -> Graph {
        Graph { grpc_addr, http_addr, ..self.graph }
    }
}

async fn log_end(serving: JoinHandle<Result<(), ServerError>>) {
    // A panic was reported when it happened.
    if let Ok(Err(error)) = serving.await {
        tracing::error!("{error}");
    }
}
