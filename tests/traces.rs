//! One trace from the door to the mail, as a collector of OpenTelemetry's sees it.
#![allow(clippy::unwrap_used)]

#[path = "support/caller.rs"]
mod caller;
#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use caller::{Caller, PASSWORD};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use process::{Serve, eventually, mails, settled};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, async_trait};
use tripline::proto::v1::feed_client::FeedClient;
use tripline::proto::v1::{PushTicksRequest, TickInput};

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

/// Ticks of which two tell.
const TICKS: &str = "time,symbol,price\n2000-03-01T14:30:00Z,AAPL,100\n\
                     2000-03-01T14:30:01Z,AAPL,130\n2000-03-01T14:30:02Z,IBM,50\n";

/// Where spans go, and how many.
fn tracing(endpoint: &str, ratio: &str) -> Vec<String> {
    let endpoint = format!("tracing.otlp_endpoint={endpoint}");
    let ratio = format!("tracing.sample_ratio={ratio}");
    let options = [endpoint, ratio, "tracing.interval_ms=20".to_owned()];
    options.into_iter().flat_map(|option| ["--set".to_owned(), option]).collect()
}

/// Launches over two watches; `ticks` says where ticks come from.
fn launch(folder: &Path, ticks: &str, tracing: &[String], mailer: &str) -> Serve {
    let watches = folder.parent().unwrap().join("watches.csv");
    fs::write(
        &watches,
        "email,symbol,low,high\nann@example.com,AAPL,,120\nbob@example.com,IBM,60,\n",
    )
    .unwrap();
    let watches = watches.display().to_string();
    let tracing = tracing.iter().map(String::as_str);
    let arguments = ["--market", ticks, "--watches", &watches].into_iter().chain(tracing);
    let arguments: Vec<&str> = arguments.collect();
    Serve::launch_with(folder, &arguments, &[], &["--mailer", mailer])
}

/// Starts over two watches and three ticks, of which two tell.
async fn serve(folder: &Path, endpoint: &str, ratio: &str) -> Serve {
    let ticks = folder.parent().unwrap().join("ticks.csv");
    fs::write(&ticks, TICKS).unwrap();
    let market = format!("replay={}@max", ticks.display());
    let mut serve = launch(folder, &market, &tracing(endpoint, ratio), "files");
    serve.ready().await;
    serve
}

/// Waits until `count` mails are sent and traced from the door on; returns the ways to them.
async fn ways(spans: &Spans, count: usize) -> Vec<Vec<Span>> {
    eventually("the mails are traced", async || {
        let ways = spans.ways().into_iter().filter(|way| !has_failed(&way[way.len() - 1]));
        let ways: Vec<_> = ways.collect();
        Some(ways).filter(|ways| ways.len() == count && ways.iter().all(|way| way.len() == 4))
    })
    .await
}

fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_door_to_the_mail() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let (spans, endpoint) = Spans::serve().await;
    let serve = serve(&folder, &endpoint, "1").await;
    settled(&folder, 3).await;
    let ways = ways(&spans, 2).await;
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

/// The first process accepts and reaches no mail server; the second sends.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_the_mail_goes_on_with_its_trace() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let (spans, endpoint) = Spans::serve().await;
    let ticks = place.path().join("ticks.csv");
    fs::write(&ticks, TICKS).unwrap();
    let market = format!("replay={}@max", ticks.display());
    let mut first = launch(&folder, &market, &tracing(&endpoint, "1"), "smtp://127.0.0.1:1");
    first.ready().await;
    eventually("both were tried", async || {
        let failed = spans.ways().into_iter().filter(|way| way.len() == 4);
        let alerts: BTreeSet<_> = failed.map(|way| text(&way[3], "tripline.alert")).collect();
        (alerts.len() == 2).then_some(())
    })
    .await;
    first.kill().await;
    let mut second = launch(&folder, "none", &tracing(&endpoint, "0"), "files");
    second.ready().await;
    for way in ways(&spans, 2).await {
        assert!(way.iter().all(|span| span.trace_id == way[0].trace_id));
    }
    assert_eq!(mails(&folder).len(), 2);
    second.stop().await;
}

/// Nothing is sampled here but what others have sampled.
#[tokio::test(flavor = "multi_thread")]
async fn pushed_ticks_go_on_with_the_trace_of_who_pushes() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let (spans, endpoint) = Spans::serve().await;
    let mut serve = launch(&folder, "none", &tracing(&endpoint, "0"), "files");
    serve.ready().await;
    add_feeder(&folder).await;
    let servers = watch::Sender::new(vec![serve.grpc().unwrap()]);
    let mut feeder = Caller::new(FEEDER, servers.subscribe(), watch::Sender::new(0));
    feeder.log_in().await;
    let tick = |symbol: &str, price: &str| TickInput {
        symbol: symbol.to_owned(),
        time: "2000-03-01T14:30:00Z".to_owned(),
        price: price.to_owned(),
        currency: String::new(),
    };
    for (header, tick) in [(Some(PUSHER), tick("AAPL", "130")), (None, tick("IBM", "50"))] {
        let batch = PushTicksRequest { ticks: vec![tick] };
        let push = async |channel, mut request: Request<PushTicksRequest>| {
            if let Some(header) = header {
                request.metadata_mut().insert("traceparent", header.parse().unwrap());
            }
            let request = request.map(|batch| futures::stream::iter([batch]));
            let mut answers = FeedClient::new(channel).push_ticks(request).await?.into_inner();
            let answer = answers.message().await?;
            answer.map(Response::new).ok_or_else(|| Status::unavailable("no answer"))
        };
        assert_eq!(feeder.call(batch, push).await.accepted, 1);
    }
    settled(&folder, 2).await;
    assert_eq!(mails(&folder).len(), 2);
    let way = ways(&spans, 1).await.remove(0);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(format!("00-{}-{}-01", hex(&way[0].trace_id), hex(&way[0].parent_span_id)), PUSHER);
    assert!(way.iter().all(|span| span.trace_id == way[0].trace_id));
    serve.stop().await;
}

const FEEDER: &str = "feeder@example.com";
const PUSHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The first feeder comes from the host, not over the API.
async fn add_feeder(folder: &Path) {
    let place = folder.parent().unwrap();
    fs::write(place.join("password"), PASSWORD).unwrap();
    let mut add = Command::new(env!("CARGO_BIN_EXE_tripline"));
    add.args(["user", "add", FEEDER, "--role", "feeder", "--password-file", "password"]);
    let add = add.arg("--data-dir").arg(folder).current_dir(place).output().await.unwrap();
    assert!(add.status.success(), "{}", String::from_utf8_lossy(&add.stderr));
}
