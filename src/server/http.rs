//! The pages for operators: metrics and health. Every node serves them, with or without gRPC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use super::cache::RequestCache;
use super::incoming::{Incoming, Silence};
use super::options::HttpOptions;
use crate::health::Health;
use crate::metrics::Metrics;

/// How long a connection may send nothing between its requests.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What the pages tell.
#[derive(Clone)]
pub struct HttpPorts {
    /// The series.
    pub metrics: Metrics,
    /// What is ready.
    pub health: Health,
    /// The cache whose size is a series, where there is one.
    pub cache: Option<Arc<dyn RequestCache>>,
}

/// The pages, being served.
pub struct HttpRunning {
    /// Where, with the port that was taken.
    pub addr: SocketAddr,
    /// Ends after the shutdown.
    pub join: JoinHandle<Result<(), ServerError>>,
}

/// Serves the pages until `shutdown`.
pub async fn start(
    options: &HttpOptions,
    ports: HttpPorts,
    shutdown: CancellationToken,
) -> Result<HttpRunning, ServerError> {
    let bind = |error| ServerError::Bind { what: "http", addr: options.listen, error };
    let silence =
        Silence { first: Duration::from_millis(options.first_byte_ms), later: SILENCE_MAX };
    let incoming =
        Incoming::bind(options.listen, options.connections_max, silence).await.map_err(bind)?;
    let addr = incoming.local_addr().map_err(bind)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(ports);
    let served = axum::serve(incoming, router).with_graceful_shutdown(shutdown.cancelled_owned());
    let join = tokio::spawn(async move {
        served.await.map_err(|error| ServerError::Serve { what: "http", error: error.to_string() })
    });
    Ok(HttpRunning { addr, join })
}

async fn metrics(State(ports): State<HttpPorts>) -> impl IntoResponse {
    if let Some(cache) = &ports.cache {
        ports.metrics.set_cache_size(cache.size().await);
    }
    ports.metrics.ready.set(i64::from(ports.health.is_ready()));
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], ports.metrics.page())
}

async fn readyz(State(ports): State<HttpPorts>) -> impl IntoResponse {
    let not_ready = ports.health.not_ready();
    let ready = not_ready.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page = serde_json::json!({ "ready": ready, "not_ready": not_ready });
    (status, [(CONTENT_TYPE, "application/json")], format!("{page}\n"))
}
