//! TLS and logins, over both clients, with a real broker: `TRIPLINE_TEST_KAFKA_SASL` (`HOST:PORT`)
//! speaks TLS with a certificate by `TRIPLINE_TEST_CA`, and knows alice by her
//! `TRIPLINE_TEST_KAFKA_PASSWORD`, by PLAIN and SCRAM.

use std::path::Path;
use std::sync::Arc;

use tripline::adapters::broker::kafka::SaslMechanism::{Plain, ScramSha256, ScramSha512};
use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions, SaslMechanism, TopicConfig};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::Offset;
use tripline::pipeline::broker::{Broker, BrokerError};

use crate::authority::stranger;
use crate::services::service;
use crate::{P0, record};

const MECHANISMS: [SaslMechanism; 3] = [Plain, ScramSha256, ScramSha512];

fn open(options: KafkaOptions) -> KafkaBroker {
    let random = Arc::new(SeededRandom::from_host());
    KafkaBroker::new(options, Arc::new(SystemClock), random, Metrics::new("test")).unwrap()
}

/// Options with which alice logs in, once for each way to do so; none where there is no broker.
fn logins() -> Vec<KafkaOptions> {
    let Some(bootstrap) = service("kafka-one", "TRIPLINE_TEST_KAFKA_SASL") else {
        return Vec::new();
    };
    let one = TopicConfig { replication_factor: 1, min_insync_replicas: 1, ..Default::default() };
    let login = |sasl_mechanism| KafkaOptions {
        bootstrap: vec![bootstrap.clone()],
        tls: true,
        root_ca_file: Some(std::env::var_os("TRIPLINE_TEST_CA").unwrap().into()),
        sasl_mechanism,
        sasl_username: Some("alice".to_owned()),
        sasl_password: Some(std::env::var("TRIPLINE_TEST_KAFKA_PASSWORD").unwrap()),
        delivery_timeout_ms: 5_000,
        topic: one.clone(),
        ..KafkaOptions::default()
    };
    MECHANISMS.map(login).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_login_works_over_tls() {
    for login in logins() {
        let broker = open(login.clone());
        let topic = format!("login-{}", uuid::Uuid::new_v4());
        broker.create_topic(&topic, 1).await.unwrap();
        let appended = broker.append(&topic, P0, vec![record("a")]).await;
        assert_eq!(appended, Ok(Offset(0)), "{:?}", login.sasl_mechanism);
        let read = broker.read(&topic, P0, Offset(0), 100).await.unwrap();
        assert_eq!(read.len(), 1);
        broker.wire().delete_topic(&topic).await.unwrap();
        broker.close().await;
    }
}

/// What creating a topic and appending come to.
async fn refusals(options: KafkaOptions) -> [BrokerError; 2] {
    let broker = open(options);
    let topic = format!("refused-{}", uuid::Uuid::new_v4());
    let created = broker.create_topic(&topic, 1).await.unwrap_err();
    let appended = broker.append(&topic, P0, vec![record("a")]).await.unwrap_err();
    broker.close().await;
    [created, appended]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_said_so() {
    for login in logins() {
        let guess = KafkaOptions { sasl_password: Some("guess".to_owned()), ..login };
        let mechanism = guess.sasl_mechanism;
        for error in refusals(guess).await {
            let said = error.to_string();
            assert!(said.contains("SaslAuthenticationFailed"), "{mechanism:?}: {said}");
            assert!(matches!(error, BrokerError::Permanent(_)), "{mechanism:?}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_not_trusted_is_refused_and_said_so() {
    let stranger = stranger();
    for login in logins() {
        for trusted in [None, Some(stranger.path())] {
            let root_ca_file = trusted.map(Path::to_owned);
            for error in refusals(KafkaOptions { root_ca_file, ..login.clone() }).await {
                assert!(error.to_string().contains("certificate"), "{error}");
            }
        }
    }
}
