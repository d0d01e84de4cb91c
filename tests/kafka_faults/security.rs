//! TLS and logins, over both clients: a broker at `TRIPLINE_TEST_KAFKA_SASL` (`HOST:PORT`) that
//! speaks TLS with a certificate by `TRIPLINE_TEST_KAFKA_CA`, and knows alice by her
//! `TRIPLINE_TEST_KAFKA_PASSWORD` by PLAIN and SCRAM.

use std::sync::Arc;

use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions, SaslMechanism, TopicConfig};
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::{Offset, Partition};
use tripline::pipeline::broker::{Broker, BrokerError};

use crate::record;

fn open(options: KafkaOptions) -> KafkaBroker {
    let random = Arc::new(SeededRandom::from_host());
    KafkaBroker::new(options, Arc::new(SystemClock), random, Metrics::new("test")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_login_works_over_tls() {
    let Ok(bootstrap) = std::env::var("TRIPLINE_TEST_KAFKA_SASL") else {
        eprintln!("NOT RUN: every_login_works_over_tls: TRIPLINE_TEST_KAFKA_SASL is not set");
        return;
    };
    let password = std::env::var("TRIPLINE_TEST_KAFKA_PASSWORD").unwrap();
    for sasl_mechanism in
        [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512]
    {
        let options = KafkaOptions {
            bootstrap: vec![bootstrap.clone()],
            tls: true,
            root_ca_file: std::env::var_os("TRIPLINE_TEST_KAFKA_CA").map(Into::into),
            sasl_mechanism,
            sasl_username: Some("alice".to_owned()),
            sasl_password: Some(password.clone()),
            topic: TopicConfig {
                replication_factor: 1,
                min_insync_replicas: 1,
                ..TopicConfig::default()
            },
            ..KafkaOptions::default()
        };
        let broker = open(options.clone());
        let topic = format!("login-{}", uuid::Uuid::new_v4());
        broker.create_topic(&topic, 1).await.unwrap();
        let appended = broker.append(&topic, Partition(0), vec![record("a")]).await;
        assert_eq!(appended, Ok(Offset(0)), "{sasl_mechanism:?}");
        let read = broker.read(&topic, Partition(0), Offset(0), 100).await.unwrap();
        assert_eq!(read.len(), 1);
        broker.wire().delete_topic(&topic).await.unwrap();

        let stranger = KafkaOptions { sasl_password: Some("guess".to_owned()), ..options.clone() };
        let error = open(stranger).create_topic(&topic, 1).await.unwrap_err();
        assert!(matches!(error, BrokerError::Permanent(_)), "{error}");
        let distrustful = KafkaOptions { root_ca_file: None, ..options };
        let error = open(distrustful).create_topic(&topic, 1).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
