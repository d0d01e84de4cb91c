//! One trace from the door to the mail, as a collector of OpenTelemetry's sees it.
#![allow(clippy::unwrap_used)]

#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use process::{Serve, eventually, mails, settled};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};

/// A collector that keeps every span.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Spans {
    async fn serve() -> (Self, String) {
        let spans = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder()
            .add_service(TraceServiceServer::new(spans.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        (spans, endpoint)
    }

    /// The spans that lead to each mail, from the door on; as far as they are known yet.
    fn ways(&self) -> Vec<Vec<Span>> {
        let spans = self.0.lock().unwrap();
        let way = |sent: &Span| {
            let mut way = vec![sent.clone()];
            while let Some(parent) = spans.iter().find(|span| span.span_id == way[0].parent_span_id)
            {
                way.insert(0, parent.clone());
            }
            way
        };
        spans.iter().filter(|span| span.name == "send").map(way).collect()
    }
}

/// The text of an attribute.
fn text(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|attribute| attribute.key == key);
    let value = value.and_then(|attribute| attribute.value.clone()).and_then(|any| any.value);
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    match value {
        Some(StringValue(text)) => text,
        _ => String::new(),
    }
}

/// Starts over two watches and three ticks, of which two tell.
async fn serve(folder: &std::path::Path, endpoint: &str, ratio: &str) -> Serve {
    let place = folder.parent().unwrap();
    let (ticks, watches) = (place.join("ticks.csv"), place.join("watches.csv"));
    fs::write(
        &ticks,
        "time,symbol,price\n2000-03-01T14:30:00Z,AAPL,100\n2000-03-01T14:30:01Z,AAPL,130\n\
         2000-03-01T14:30:02Z,IBM,50\n",
    )
    .unwrap();
    fs::write(
        &watches,
        "email,symbol,low,high\nann@example.com,AAPL,,120\nbob@example.com,IBM,60,\n",
    )
    .unwrap();
    let endpoint = format!("tracing.otlp_endpoint={endpoint}");
    let ratio = format!("tracing.sample_ratio={ratio}");
    let market = format!("replay={}@max", ticks.display());
    let watches = watches.display().to_string();
    let arguments = ["--market", &market, "--watches", &watches, "--set", &endpoint];
    let more = ["--set", &ratio, "--set", "tracing.interval_ms=20"];
    Serve::start(folder, &[&arguments[..], &more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_door_to_the_mail() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let (spans, endpoint) = Spans::serve().await;
    let serve = serve(&folder, &endpoint, "1").await;
    settled(&folder, 3).await;
    let ways = eventually("two mails are traced", async || {
        Some(spans.ways()).filter(|ways| ways.len() == 2 && ways.iter().all(|way| way.len() == 4))
    })
    .await;
    let alerts: BTreeSet<_> = mails(&folder).into_iter().map(|mail| mail.alert).collect();
    let traced: BTreeSet<_> = ways.iter().map(|way| text(&way[3], "tripline.alert")).collect();
    assert_eq!(traced, alerts);
    for way in &ways {
        let names: Vec<_> = way.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["collect", "evaluate", "accept", "send"]);
        assert!(way[0].parent_span_id.is_empty());
        assert!(way.iter().all(|span| span.trace_id == way[0].trace_id));
        let is_composed =
            |span: &Span| span.name == "compose" && span.parent_span_id == way[2].span_id;
        assert!(spans.0.lock().unwrap().iter().any(is_composed));
    }
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_leaves_no_trace() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let (spans, endpoint) = Spans::serve().await;
    let serve = serve(&folder, &endpoint, "0").await;
    settled(&folder, 3).await;
    serve.stop().await;
    assert_eq!(mails(&folder).len(), 2);
    assert!(spans.0.lock().unwrap().is_empty());
}
