//! The server as operators meet it: pages, TLS, reflection, limits, starting and stopping.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tripline::proto::usermanagement::user_service_client::UserServiceClient;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::server::{Server, ServerOptions};

use super::fixture::*;

async fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn pages_tell_metrics_and_readiness() {
    let node = Node::start().await;
    let mut client = node.legacy().await;
    client.register_user(from("a@x.y", "r1", registration("a@x.y"))).await.unwrap();
    let page = get(node.http, "/metrics").await;
    assert!(page.contains("content-type: application/openmetrics-text; version=1.0.0"), "{page}");
    for line in [
        r#"cache_size{uservice="server_exporter",hostname="test"} 1"#,
        r#"request_total{uservice="server_exporter",hostname="test"} 1"#,
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
    assert!(get(node.http, "/healthz").await.starts_with("HTTP/1.1 200"));
    let page = get(node.http, "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains(r#""ready":true"#), "{page}");

    let mut health = HealthClient::new(node.connect().await);
    let request = HealthCheckRequest { service: String::new() };
    let mut states = health.watch(request).await.unwrap().into_inner();
    // It may not have noticed yet that the last tail was ready.
    within(async { while states.message().await.unwrap().unwrap().status != 1 {} }).await;
    node.health.component("mailer").not_ready("no route to the mail server");
    let page = get(node.http, "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 503"), "{page}");
    assert!(page.contains(r#""mailer":"no route to the mail server""#), "{page}");
    within(async { while states.message().await.unwrap().unwrap().status != 2 {} }).await;
}

#[tokio::test]
async fn streams_that_need_no_login_are_bounded() {
    let world = World::new();
    let bounds = |options: &mut ServerOptions| {
        options.grpc.probe_streams_max = 3;
        options.grpc.probe_streams_per_connection_max = 2;
    };
    let node = world.node(bounds).await;
    let (one, other) = (node.connect().await, node.connect().await);
    let watch = async |channel: &Channel| {
        let request = HealthCheckRequest { service: String::new() };
        let streams = HealthClient::new(channel.clone()).watch(request).await;
        streams.map(|stream| stream.into_inner()).map_err(|status| {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            status.message().to_owned()
        })
    };
    // One that is never told anything, because it never asks.
    let reflect = async |channel: &Channel| {
        let mut client = ServerReflectionClient::new(channel.clone());
        let streams = client.server_reflection_info(futures::stream::pending()).await;
        streams.map(|stream| stream.into_inner())
    };
    let first = watch(&one).await.unwrap();
    let _second = reflect(&one).await.unwrap();
    assert!(watch(&one).await.unwrap_err().contains("at most 2 open streams"));
    assert_eq!(reflect(&one).await.unwrap_err().code(), Code::ResourceExhausted);
    let third = watch(&other).await.unwrap();
    assert!(watch(&other).await.unwrap_err().contains("at most 3 open streams"));
    // Whoever only asks once is answered all the same.
    let request = HealthCheckRequest { service: String::new() };
    assert!(HealthClient::new(one.clone()).check(request).await.is_ok());
    // Places come back with the end of a stream and of a connection.
    drop(first);
    let _fourth = within(until(async || watch(&one).await.ok())).await;
    drop((third, other));
    let another = node.connect().await;
    let _fifth = within(until(async || watch(&another).await.ok())).await;
}

/// Asks again and again until there is an answer.
async fn until<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn reflection_lists_both_apis() {
    let node = Node::start().await;
    let mut client = ServerReflectionClient::new(node.connect().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = within(answers.into_inner().message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["tripline.v1.Watches", "usermanagement.UserService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing in {names:?}");
    }
}

#[tokio::test]
async fn authorisation_is_the_connections_over_tls_as_well() {
    let world = World::new();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert_path, key_path) = (world.dir.path().join("c.pem"), world.dir.path().join("k.pem"));
    std::fs::write(&cert_path, key.cert.pem()).unwrap();
    std::fs::write(&key_path, key.signing_key.serialize_pem()).unwrap();
    let node = world
        .node(|options| {
            options.grpc.tls_cert = Some(cert_path);
            options.grpc.tls_key = Some(key_path);
        })
        .await;
    let connect = async || {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(key.cert.pem()))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", node.grpc)).unwrap();
        UserServiceClient::new(endpoint.tls_config(tls).unwrap().connect().await.unwrap())
    };
    let (mut first, mut other) = (connect().await, connect().await);
    assert!(first.register_user(registration("a@x.y")).await.unwrap().get_ref().success);
    assert!(first.show_details(identifier("a@x.y")).await.unwrap().get_ref().success);
    assert!(!other.show_details(identifier("a@x.y")).await.unwrap().get_ref().success);
}

#[tokio::test]
async fn what_can_not_start_says_why() {
    let world = World::new();
    let store = world.store().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    type Change<'a> = Box<dyn Fn(&mut ServerOptions) + 'a>;
    let cases: [(Change<'_>, String); 5] = [
        (Box::new(|o| o.grpc.listen = addr), format!("can't listen on {addr} for grpc: ")),
        (Box::new(|o| o.http.listen = addr), format!("can't listen on {addr} for http: ")),
        (Box::new(|o| o.grpc.tls_key = Some("k".into())), "expected both or none".to_owned()),
        (
            Box::new(|o| {
                (o.grpc.tls_key, o.grpc.tls_cert) = (Some("/no/k".into()), Some("/no/c".into()));
            }),
            "can't read /no/c for TLS".to_owned(),
        ),
        (Box::new(|o| o.legacy.time_zone = "Mars".into()), "found \"Mars\"".to_owned()),
    ];
    for (change, part) in cases {
        let mut options = options();
        change(&mut options);
        let ports = world.ports(&store).await;
        let error = Server::start(options, ports, CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains(&part), "expected {part:?}, found {error}");
    }
}

#[tokio::test]
async fn messages_and_connections_are_bounded() {
    let world = World::new();
    let node = world
        .node(|options| {
            options.grpc.message_bytes_max = 2_000;
            options.grpc.connections_max = 1;
        })
        .await;
    let channel = node.connect().await;
    let mut client = AccountsClient::new(channel.clone());
    let password = "x".repeat(3_000);
    let request = v1::RegisterRequest { email: "a@x.y".to_owned(), password };
    let status = client.register(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    // The second connection is served once the first is gone.
    let addr = node.grpc;
    let mut waiting = tokio::spawn(async move {
        let mut client = UserServiceClient::new(connect(addr).await);
        client.show_details(identifier("a@x.y")).await
    });
    // The first still answers, so the second has had its time to be served, had it been taken.
    let who = client.who_am_i(v1::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(who.code(), Code::Unauthenticated);
    assert!(futures::poll!(&mut waiting).is_pending());
    drop((client, channel));
    assert!(within(waiting).await.unwrap().is_ok());
    node.stop().await;
}
