//! The pages for operators: metrics and health. Every node serves them, with or without gRPC.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
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
struct Told {
    metrics: Metrics,
    health: Health,
    cache: Arc<OnceLock<Arc<dyn RequestCache>>>,
}

/// Pages that are served: from the first moment of a process on, whatever it still waits for.
#[derive(Clone)]
pub struct Pages {
    /// Where, with the port that was taken.
    pub addr: SocketAddr,
    cache: Arc<OnceLock<Arc<dyn RequestCache>>>,
}

impl Pages {
    /// The cache whose size is a series from now on; the first one named counts.
    pub fn tell_size_of(&self, cache: Arc<dyn RequestCache>) {
        // Another one is none of these pages'.
        let _ = self.cache.set(cache);
    }
}

/// Serves the pages until `shutdown`; what is returned with them ends after that.
pub async fn start(
    options: &HttpOptions,
    metrics: Metrics,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(Pages, JoinHandle<Result<(), ServerError>>), ServerError> {
    let bind = |error| ServerError::Bind { what: "http", addr: options.listen, error };
    let silence =
        Silence { first: Duration::from_millis(options.first_byte_ms), later: SILENCE_MAX };
    let incoming =
        Incoming::bind(options.listen, options.connections_max, silence).await.map_err(bind)?;
    let addr = incoming.local_addr().map_err(bind)?;
    let cache = Arc::new(OnceLock::new());
    let told = Told { metrics, health, cache: Arc::clone(&cache) };
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(told);
    let served = axum::serve(incoming, router).with_graceful_shutdown(shutdown.cancelled_owned());
    let join = tokio::spawn(async move {
        served.await.map_err(|error| ServerError::Serve { what: "http", error: error.to_string() })
    });
    Ok((Pages { addr, cache }, join))
}

async fn metrics_page(State(told): State<Told>) -> impl IntoResponse {
    if let Some(cache) = told.cache.get() {
        told.metrics.set_cache_size(cache.size().await);
    }
    told.metrics.ready.set(i64::from(told.health.is_ready()));
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], told.metrics.page())
}

async fn readyz(State(told): State<Told>) -> impl IntoResponse {
    let not_ready = told.health.not_ready();
    let ready = not_ready.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let page = serde_json::json!({ "ready": ready, "not_ready": not_ready });
    (status, [(CONTENT_TYPE, "application/json")], format!("{page}\n"))
}
