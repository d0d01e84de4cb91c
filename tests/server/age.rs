//! The age of connections: clients connect anew without losing a call, but for those whose login
//! is their connection's.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tripline::proto::usermanagement::user_service_client::UserServiceClient;
use tripline::proto::v1;
use tripline::proto::v1::accounts_client::AccountsClient;
use tripline::proto::v1::alerts_client::AlertsClient;
use tripline::server::store::Role;

use super::fixture::*;

const AGE: Duration = Duration::from_secs(3_600);
const GRACE: Duration = Duration::from_secs(300);

/// Passes connections on, and counts them.
struct Relay {
    addr: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { addr: listener.local_addr().unwrap(), count: Arc::default() };
        let count = Arc::clone(&relay.count);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect(server).await.unwrap();
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        relay
    }

    async fn connect(&self) -> Channel {
        connect(self.addr).await
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Calls until that is done over a connection with this number. The server answers every call
    /// that reaches it; the client's transport may give one up unsent as its connection ends.
    async fn call_until(&self, count: usize, channel: &Channel, token: &str) {
        let mut accounts = AccountsClient::new(channel.clone());
        within(async {
            while self.count() < count {
                let answer = accounts.who_am_i(with(token, v1::WhoAmIRequest {})).await;
                assert!(answer.as_ref().err().is_none_or(is_unsent), "{answer:?}");
            }
        })
        .await;
    }
}

/// Whether no server has seen the call.
fn is_unsent(status: &Status) -> bool {
    status.source().is_some_and(|source| source.is::<tonic::transport::Error>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_connection_is_replaced_and_its_streams_get_their_grace() {
    let world = World::new();
    let node = world.node(options_of_age).await;
    let relay = Relay::to(node.grpc).await;
    let ann = node.login("ann@example.com", Role::User).await;
    let channel = relay.connect().await;
    let mut alerts = AlertsClient::new(channel.clone());
    let request = with(&ann, v1::StreamAlertsRequest {});
    let mut told = alerts.stream_alerts(request).await.unwrap().into_inner();
    // A stream that takes no notice of anything.
    let mut health = HealthClient::new(channel.clone());
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watched.message().await.unwrap();

    // Not before half of its time.
    world.clock.advance(AGE / 2 - Duration::from_secs(1));
    relay.call_until(1, &channel, &ann).await;
    world.clock.advance(AGE / 2 + Duration::from_secs(1));
    relay.call_until(2, &channel, &ann).await;
    assert_eq!(node.metric("tripline_streams"), 1.0, "the stream goes on");

    world.clock.advance(GRACE);
    let status = within(told.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("age"), "{status:?}");
    let request = with(&ann, v1::StreamAlertsRequest {});
    alerts.stream_alerts(request).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    within(watched.message()).await.unwrap_err();
    assert_eq!(relay.count(), 2, "the new connection is young");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_a_login_of_the_originals_api_stays() {
    let world = World::new();
    let node = world.node(options_of_age).await;
    let (others, relay) = (Relay::to(node.grpc).await, Relay::to(node.grpc).await);
    let bob = node.login("bob@example.com", Role::User).await;
    let other = others.connect().await;
    let mut client = UserServiceClient::new(relay.connect().await);
    let ann = "ann@example.com";
    assert!(client.register_user(registration(ann)).await.unwrap().get_ref().success);
    for age in 2..5 {
        world.clock.advance(AGE);
        others.call_until(age, &other, &bob).await;
        world.clock.advance(GRACE * 2);
        let shown = client.show_details(identifier(ann)).await.unwrap().into_inner();
        assert!(shown.success, "{shown:?}");
    }
    assert_eq!(relay.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_live_for_ever() {
    let world = World::new();
    let node = world.node(|options| options.grpc.connection_age_max_ms = 0).await;
    let relay = Relay::to(node.grpc).await;
    let ann = node.login("ann@example.com", Role::User).await;
    let channel = relay.connect().await;
    let mut alerts = AlertsClient::new(channel.clone());
    let request = with(&ann, v1::StreamAlertsRequest {});
    let _stream = alerts.stream_alerts(request).await.unwrap();
    world.clock.advance(AGE * 24);
    relay.call_until(1, &channel, &ann).await;
    assert_eq!(relay.count(), 1);
    assert_eq!(node.metric("tripline_streams"), 1.0);
}

fn options_of_age(options: &mut tripline::server::ServerOptions) {
    options.grpc.connection_age_max_ms = u64::try_from(AGE.as_millis()).unwrap();
    options.grpc.connection_age_grace_ms = u64::try_from(GRACE.as_millis()).unwrap();
}
