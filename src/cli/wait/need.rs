//! What can be waited for, and how it is looked for.

use std::fmt;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::net::TcpStream;

use crate::adapters::broker::kafka::KafkaOptions;
use crate::adapters::broker::kafka::wire::Cluster;
use crate::adapters::store::mysql::{Failure, MysqlOptions, connect_options};
use crate::adapters::tls::is_of_certificate;
use crate::pipeline::record::{ALERTS_TOPIC, TICKS_TOPIC};

/// Something to wait for. Shown without secrets.
pub(super) enum Need {
    /// A port that takes connections.
    Tcp(String),
    /// Brokers of which one answers, and perhaps both topics.
    Kafka { brokers: Vec<String>, cluster: Box<Cluster>, topics: Vec<String> },
    /// A database that takes its user.
    Mysql(Box<MySqlConnectOptions>),
}

impl Need {
    pub(super) fn tcp(addr: &str) -> Result<Self, String> {
        check_addr(addr).map_err(|cause| format!("--tcp: {cause}"))?;
        Ok(Self::Tcp(addr.to_owned()))
    }

    /// `topics`: wait for those too, whose names begin with this.
    pub(super) fn kafka(options: &KafkaOptions, topics: Option<&str>) -> Result<Self, String> {
        options.check().map_err(|error| format!("--kafka: {error}"))?;
        let brokers = options.bootstrap.clone();
        let cluster = Cluster::new(options).map_err(|error| format!("--kafka: {error}"))?;
        let topics = topics.map_or(Vec::new(), |prefix| {
            [TICKS_TOPIC, ALERTS_TOPIC].map(|topic| format!("{prefix}{topic}")).into()
        });
        Ok(Self::Kafka { brokers, cluster: Box::new(cluster), topics })
    }

    pub(super) fn mysql(options: &MysqlOptions) -> Result<Self, String> {
        let options = connect_options(options).map_err(|error| format!("--mysql: {error}"))?;
        Ok(Self::Mysql(Box::new(options.disable_statement_logging())))
    }

    /// Looks for it once; says what was found instead.
    pub(super) async fn look(&self) -> Result<(), String> {
        match self {
            Self::Tcp(addr) => match TcpStream::connect(addr).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("expected a server, found: {error}")),
            },
            Self::Kafka { cluster, topics, .. } => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                kafka(cluster, &topics).await
            }
            Self::Mysql(options) => mysql(options).await,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => f.write_str(addr),
            Self::Kafka { brokers, topics, .. } => {
                let what = if topics.is_empty() { "kafka" } else { "topics on kafka" };
                write!(f, "{what} {}", brokers.join(","))
            }
            Self::Mysql(options) => {
                let database = options.get_database().unwrap_or_default();
                write!(f, "mysql://{}:{}/{database}", options.get_host(), options.get_port())
            }
        }
    }
}

fn check_addr(addr: &str) -> Result<(), String> {
    let is_addr = addr.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_addr { Ok(()) } else { Err(format!("expected HOST:PORT, found {addr:?}")) }
}

/// Any one broker answers, and every partition of the topics has a leader.
async fn kafka(cluster: &Cluster, topics: &[&str]) -> Result<(), String> {
    let view = cluster.describe(Some(topics)).await.map_err(|error| error.to_string())?;
    for name in topics {
        let Some(topic) = view.topics.iter().find(|topic| topic.name == *name) else {
            return Err(format!("expected the topic {name}, found none"));
        };
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some()).count();
        let all = topic.partitions.len();
        if led < all {
            return Err(format!("expected leaders of {name}'s {all} partitions, found {led}"));
        }
    }
    Ok(())
}

async fn mysql(options: &MySqlConnectOptions) -> Result<(), String> {
    let failed = |error: sqlx::Error| match error {
        sqlx::Error::Io(error) if !is_of_certificate(&error) => {
            format!("expected a server, found: {error}")
        }
        error => format!("expected to be let in, found: {}", Failure::from(error)),
    };
    let mut connection = MySqlConnection::connect_with(options).await.map_err(failed)?;
    connection.ping().await.map_err(failed)?;
    // It is there; how the connection ends says nothing.
    let _ = connection.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(bootstrap: &[&str]) -> KafkaOptions {
        let bootstrap = bootstrap.iter().map(|&broker| broker.to_owned()).collect();
        KafkaOptions { bootstrap, ..KafkaOptions::default() }
    }

    fn database(url: &str) -> MysqlOptions {
        MysqlOptions { url: url.to_owned(), ..MysqlOptions::default() }
    }

    #[test]
    fn what_is_wrong_is_named_and_passwords_are_not() {
        for (need, expected) in [
            (Need::tcp("redis"), "--tcp: expected HOST:PORT, found \"redis\""),
            (Need::tcp("redis:0"), "--tcp: expected HOST:PORT, found \"redis:0\""),
            (Need::kafka(&brokers(&["a:1", "b"]), None), "--kafka: "),
            (Need::kafka(&brokers(&[]), None), "--kafka: "),
            (
                Need::mysql(&database("postgres://ann:secret@b")),
                "--mysql: mysql.url: expected mysql://USER:PASSWORD@HOST:PORT/DATABASE",
            ),
        ] {
            let error = need.err().unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
        let mysql = Need::mysql(&database("mysql://ann:secret@db:3306/tripline")).unwrap();
        assert_eq!(mysql.to_string(), "mysql://db:3306/tripline");
        let kafka = Need::kafka(&brokers(&["a:1", "b:2"]), Some("")).unwrap();
        assert_eq!(kafka.to_string(), "topics on kafka a:1,b:2");
    }
}
