//! Traces to a collector of OpenTelemetry's, over OTLP and gRPC.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use serde::Deserialize;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use crate::trace;

/// Where traces go, and how many.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingOptions {
    /// The collector's gRPC port, as in `http://127.0.0.1:4317`; none: nothing is traced.
    pub otlp_endpoint: String,
    /// The part of the batches of ticks that is traced: 0 to 1.
    pub sample_ratio: f64,
    /// What traces name this program.
    pub service_name: String,
    /// How long one export may take, in milliseconds.
    pub timeout_ms: u64,
    /// Milliseconds between two exports.
    pub interval_ms: u64,
    /// Spans that wait for an export; more are dropped.
    pub queue_len: usize,
}

impl Default for TracingOptions {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            sample_ratio: 0.1,
            service_name: "tripline".to_owned(),
            timeout_ms: 10_000,
            interval_ms: 1_000,
            queue_len: 4_096,
        }
    }
}

impl TracingOptions {
    /// The option that is wrong, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            let found = self.sample_ratio;
            return Err(("tracing.sample_ratio", format!("expected 0 to 1, found {found}")));
        }
        if self.queue_len == 0 {
            return Err(("tracing.queue_len", "expected at least 1, found 0".to_owned()));
        }
        if self.otlp_endpoint.is_empty() {
            return Ok(());
        }
        self.endpoint().map(drop).map_err(|cause| ("tracing.otlp_endpoint", cause))
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let wrong = || {
            let found = &self.otlp_endpoint;
            format!("expected http(s)://HOST:PORT of a gRPC port, found {found:?}")
        };
        let endpoint = Endpoint::from_shared(self.otlp_endpoint.clone()).map_err(|_| wrong())?;
        match endpoint.uri().scheme_str() {
            Some("http") => Ok(endpoint),
            Some("https") => {
                let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
                let tls = ClientTlsConfig::new().trust_anchors(roots);
                endpoint.tls_config(tls).map_err(|error| error.to_string())
            }
            _ => Err(wrong()),
        }
    }
}

/// The way to the collector. Spans go in batches, from a thread of their own; while the collector
/// is not there they are dropped.
#[derive(Debug)]
pub struct Otlp(SdkTracerProvider);

impl Otlp {
    /// Traces from here on, if a collector is named. To be called within the runtime.
    pub fn start(options: &TracingOptions, host: &str) -> Result<Option<Self>, String> {
        if options.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let channel = options.endpoint()?.connect_lazy();
        let provider = provider(options, channel, host)?;
        trace::install(provider.tracer("tripline"));
        Ok(Some(Self(provider)))
    }

    /// Sends what waits, and ends. Takes at most `patience`.
    pub async fn stop(self, patience: Duration) {
        let stop = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(patience));
        if let Ok(Err(error)) = stop.await {
            tracing::warn!("the last traces were not sent: {error}");
        }
    }
}

fn provider(
    options: &TracingOptions,
    channel: Channel,
    host: &str,
) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(Duration::from_millis(options.timeout_ms))
        .build()
        .map_err(|error| error.to_string())?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(options.queue_len)
        .with_max_export_batch_size(options.queue_len.min(512))
        .with_scheduled_delay(Duration::from_millis(options.interval_ms.max(1)))
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder()
        .with_service_name(options.service_name.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("host.name", host.to_owned()),
        ])
        .build();
    let first = Sampler::TraceIdRatioBased(options.sample_ratio);
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(first)))
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let check = |change: fn(&mut TracingOptions)| {
            let mut options = TracingOptions::default();
            change(&mut options);
            options.check().err().map(|(key, _)| key)
        };
        assert_eq!(check(|_| ()), None);
        assert_eq!(check(|options| options.otlp_endpoint = "http://a:4317".into()), None);
        for endpoint in ["a:4317", "ftp://a", "http://a b"] {
            let options =
                TracingOptions { otlp_endpoint: endpoint.into(), ..TracingOptions::default() };
            assert_eq!(options.check().unwrap_err().0, "tracing.otlp_endpoint", "{endpoint}");
        }
        assert_eq!(check(|options| options.sample_ratio = 1.5), Some("tracing.sample_ratio"));
        assert_eq!(check(|options| options.queue_len = 0), Some("tracing.queue_len"));
    }
}
