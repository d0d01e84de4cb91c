//! Puts the server node together and runs it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::server::ServerTlsConfig;
use tonic::transport::{Identity, Server as Transport};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower_http::trace::TraceLayer;

use super::board::Board;
use super::commands::{CommandPorts, Commands};
use super::connections::{Age, serve_each};
use super::deadline::DeadlineLayer;
use super::http;
use super::incoming::{Incoming, Silence};
use super::legacy::{Authorisation, Legacy};
use super::login::Logins;
use super::options::GrpcOptions;
use super::password::Passwords;
use super::probe::ProbeStreams;
use super::queries::Queries;
use super::sessions::Sessions;
use super::tail::Tail;
use super::throttle::Throttle;
use super::{Ports, SMALL_BYTES_MAX, ServerError, ServerOptions, Services, v1};
use crate::health::Health;
use crate::proto::DESCRIPTORS;
use crate::proto::usermanagement::user_service_server::UserServiceServer;

/// The server node.
pub struct Server;

/// A server node that runs.
#[derive(Debug)]
pub struct Running {
    /// Where gRPC is served, with the port that was taken.
    pub grpc_addr: SocketAddr,
    /// Where the HTTP pages are served, with the port that was taken.
    pub http_addr: SocketAddr,
    /// Ends after the shutdown, once nothing runs any more or its time is over.
    pub join: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Starts to listen and to serve, until `shutdown`. Then no call is accepted any more,
    /// streams end, and calls and commands that have begun are given their time.
    pub async fn start(
        options: ServerOptions,
        ports: Ports,
        shutdown: CancellationToken,
    ) -> Result<Running, ServerError> {
        let grpc = &options.grpc;
        let bind = |error| ServerError::Bind { what: "grpc", addr: grpc.listen, error };
        let transport = transport(grpc)?;
        let age = age(grpc, &ports);
        let services = Arc::new(services(&options, &ports, shutdown.clone()));
        let (reporter, routes) = routes(&options, &services)?;
        let incoming =
            Incoming::bind(grpc.listen, grpc.connections_max, silence(grpc)).await.map_err(bind)?;
        let grpc_addr = incoming.local_addr().map_err(bind)?;
        let (metrics, health) = (ports.metrics.clone(), ports.health.clone());
        let (pages, http) = match ports.pages {
            Some(pages) => (pages, None),
            None => {
                let http = http::start(&options.http, metrics, health, shutdown.clone());
                http.await.map(|(pages, http)| (pages, Some(http)))?
            }
        };
        pages.tell_size_of(Arc::clone(&ports.cache));
        warn_of_risks(&options, grpc_addr);

        let helpers = TaskTracker::new();
        helpers.spawn(report_health(reporter, ports.health.clone(), shutdown.clone()));
        let sessions = Arc::clone(&services.sessions);
        let stop = shutdown.clone();
        helpers.spawn(async move { sessions.watch_store(stop).await });
        let board = Arc::clone(&services.board);
        let tail = Tail::new(options.tail, ports.broker, board, ports.clock, ports.health);
        helpers.spawn(tail.run(shutdown.clone()));
        helpers.close();

        let longest = Duration::from_millis(grpc.request_timeout_ms);
        let logged = TraceLayer::new_for_grpc()
            .make_span_with(call_span)
            .on_request(())
            .on_response(())
            .on_body_chunk(())
            .on_eos(())
            .on_failure(());
        let router =
            transport.layer(logged).layer(DeadlineLayer { longest }).add_routes(routes.prepare());
        let served = serve_each(incoming, age, shutdown.clone(), move |connection, end| {
            let end = end.cancelled_owned();
            router.clone().serve_with_incoming_shutdown(connection, end)
        });
        let grace = Duration::from_millis(grpc.shutdown_timeout_ms);
        let join = tokio::spawn(async move {
            let over = async {
                shutdown.cancelled().await;
                tokio::time::sleep(grace).await;
            };
            tokio::select! {
                () = served => {}
                () = over => {
                    tracing::warn!("calls were cut off, because the time to end was over");
                }
            }
            within(grace, "commands", services.commands.drain()).await;
            within(grace, "helpers", helpers.wait()).await;
            if let Some(http) = http {
                within(grace, "http", http).await;
            }
            Ok(())
        });
        Ok(Running { grpc_addr, http_addr: pages.addr, join })
    }
}

/// What every line of the log says of the call that it belongs to.
fn call_span(call: &Request<Body>) -> tracing::Span {
    let headers = call.headers();
    let id = headers.get("request-id").or_else(|| headers.get("request_id"));
    let id = id.and_then(|id| id.to_str().ok()).and_then(|id| id.get(..id.len().min(64)));
    tracing::info_span!("call", method = call.uri().path(), request_id = id)
}

async fn within<T>(grace: Duration, what: &str, end: impl Future<Output = T>) {
    if tokio::time::timeout(grace, end).await.is_err() {
        tracing::warn!(what, "given up, because the time to end was over");
    }
}

fn services(options: &ServerOptions, ports: &Ports, shutdown: CancellationToken) -> Services {
    let clock = &ports.clock;
    let passwords = Passwords::new(options.passwords);
    let board = Arc::new(Board::new(options.board, Arc::clone(clock), ports.metrics.clone()));
    let sessions =
        Arc::new(Sessions::new(options.sessions, Arc::clone(&ports.accounts), Arc::clone(clock)));
    let logins = Arc::new(Logins::new(
        Arc::clone(&ports.accounts),
        Arc::clone(clock),
        passwords.clone(),
        Throttle::new(options.throttle),
    ));
    let ports_of_commands = CommandPorts {
        store: Arc::clone(&ports.commands),
        accounts: Arc::clone(&ports.accounts),
        cache: Arc::clone(&ports.cache),
        secret: ports.secret.clone(),
        passwords,
        logins: Arc::clone(&logins),
        sessions: Arc::clone(&sessions),
        board: Arc::clone(&board),
        metrics: ports.metrics.clone(),
    };
    Services {
        commands: Commands::new(ports_of_commands, options.grpc.commands_max),
        queries: Queries::new(Arc::clone(&ports.queries), Arc::clone(&board)),
        sessions,
        logins,
        board,
        accounts: Arc::clone(&ports.accounts),
        operator: Arc::clone(&ports.operator),
        broker: Arc::clone(&ports.broker),
        door: Arc::clone(&ports.door),
        market: ports.market.clone(),
        symbol_check_ms: options.grpc.symbol_check_ms,
        symbol_check: Semaphore::new(1),
        clock: Arc::clone(clock),
        metrics: ports.metrics.clone(),
        shutdown,
    }
}

/// A peer that lives answers the transport's question for a sign of life within those two times,
/// and some seconds are for the way.
fn silence(options: &GrpcOptions) -> Silence {
    let answered = options.keepalive_interval_ms.saturating_add(options.keepalive_timeout_ms);
    Silence {
        first: Duration::from_millis(options.first_byte_ms),
        later: Duration::from_millis(answered.saturating_add(10_000)),
    }
}

fn age(options: &GrpcOptions, ports: &Ports) -> Age {
    let max = options.connection_age_max_ms;
    Age {
        max: (max > 0).then(|| Duration::from_millis(max)),
        grace: Duration::from_millis(options.connection_age_grace_ms),
        clock: Arc::clone(&ports.clock),
        random: Arc::clone(&ports.random),
    }
}

fn transport(options: &GrpcOptions) -> Result<Transport, ServerError> {
    let mut transport = Transport::builder()
        .max_concurrent_streams(options.calls_per_connection_max)
        .http2_keepalive_interval(Some(Duration::from_millis(options.keepalive_interval_ms)))
        .http2_keepalive_timeout(Some(Duration::from_millis(options.keepalive_timeout_ms)));
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| ServerError::TlsFile { path: path.clone(), error })
    };
    match (&options.tls_cert, &options.tls_key) {
        (None, None) => {}
        (Some(cert), Some(key)) => {
            let tls = ServerTlsConfig::new()
                .identity(Identity::from_pem(read(cert)?, read(key)?))
                .timeout(Duration::from_millis(options.tls_handshake_ms));
            transport = transport.tls_config(tls).map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                ServerError::Tls(cause.unwrap_or_else(|| error.to_string()))
            })?;
        }
        _ => return Err(ServerError::Tls("expected both or none, found one".to_owned())),
    }
    Ok(transport)
}

fn routes(
    options: &ServerOptions,
    services: &Arc<Services>,
) -> Result<(HealthReporter, Routes), ServerError> {
    let bytes_max = options.grpc.message_bytes_max;
    let mut routes = RoutesBuilder::default();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServerError::Reflection(error.to_string()))?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let grpc = &options.grpc;
    let streams = ProbeStreams::new(grpc.probe_streams_max, grpc.probe_streams_per_connection_max);
    routes.add_service(streams.bound(reflection));
    routes.add_service(streams.bound(health));
    v1::Api::new(Arc::clone(services)).add_to(&mut routes, bytes_max);
    let authorisation = options.legacy.authorisation;
    if authorisation != Authorisation::Off {
        let zone = &options.legacy.time_zone;
        let time_zone = TimeZone::get(zone).map_err(|error| ServerError::TimeZone {
            zone: zone.clone(),
            error: error.to_string(),
        })?;
        let legacy = Legacy::new(Arc::clone(services), authorisation, time_zone);
        let small = bytes_max.min(SMALL_BYTES_MAX);
        routes.add_service(UserServiceServer::new(legacy).max_decoding_message_size(small));
    }
    Ok((reporter, routes.routes()))
}

fn warn_of_risks(options: &ServerOptions, addr: SocketAddr) {
    if options.grpc.tls_cert.is_none() && !addr.ip().is_loopback() {
        tracing::warn!(%addr, "gRPC listens without TLS: passwords and tokens can be read on the way");
    }
    if options.legacy.authorisation == Authorisation::Open {
        tracing::warn!(
            "legacy.authorisation is open: whoever reaches the port may act on any account"
        );
    }
}

/// Says over `grpc.health.v1` what the registry says.
async fn report_health(reporter: HealthReporter, health: Health, shutdown: CancellationToken) {
    let mut changes = health.changes();
    loop {
        changes.mark_unchanged();
        let serving = health.is_ready() && !shutdown.is_cancelled();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = shutdown.cancelled() => {
                return reporter.set_service_status("", ServingStatus::NotServing).await;
            }
        }
    }
}
