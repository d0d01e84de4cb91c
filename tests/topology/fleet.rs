//! The processes of a topology, and the services behind them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;
use tonic::transport::{Certificate, ClientTlsConfig};
use tripline::adapters::broker::kafka::{KafkaBroker, KafkaOptions};
use tripline::adapters::broker::prefixed::Prefixed;
use tripline::adapters::clock::{SeededRandom, SystemClock};
use tripline::metrics::Metrics;
use tripline::model::Partition;
use tripline::pipeline::broker::Broker;
use tripline::pipeline::record::TICKS_TOPIC;

use crate::caller::{Caller, PASSWORD};
use crate::database::Database;
use crate::mysql_server;
use crate::process::{Mail, Serve, settled};
use crate::proxy::Proxy;
use crate::services::service;
use crate::smtp::{Script, SmtpServer};

/// Who pushes the ticks.
pub(crate) const FEEDER: &str = "feeder@example.com";

/// Which processes there are, and over what.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// The roles of each process.
    pub(crate) roles: &'static [&'static str],
    pub(crate) partitions: u32,
    pub(crate) over: Over,
}

/// What a topology is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// A folder.
    Folder,
    /// Kafka, MySQL and Redis.
    Services,
    /// The same; Kafka, MySQL, the mail server and the servers themselves speak TLS only.
    Tls,
}

/// What a run has of the services: nothing that another one sees.
struct Services {
    /// What the names of its topics begin with, and its group.
    run: String,
    /// Its brokers, without TLS.
    kafka: String,
    broker: Arc<dyn Broker>,
    database: mysql_server::Database,
    /// Its URL for the processes.
    mysql: String,
    /// The options that name them.
    options: Vec<String>,
    /// A way to the database that can be cut, for one of the processes.
    proxy: Option<Proxy>,
}

impl Services {
    async fn find(run: &str, over: Over) -> Option<Self> {
        let kafka = match over {
            Over::Tls => service("kafka-one", "TRIPLINE_TEST_KAFKA_ONE")?,
            _ => service("kafka", "TRIPLINE_TEST_KAFKA")?,
        };
        let redis = service("redis", "TRIPLINE_TEST_REDIS")?;
        let database = mysql_server::Database::create().await?;
        let bootstrap = kafka.split(',').map(str::to_owned).collect();
        let options = KafkaOptions { bootstrap, ..KafkaOptions::default() };
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SeededRandom::from_host()));
        let broker = KafkaBroker::new(options, clock, random, Metrics::new("test")).unwrap();
        let mysql = match over {
            Over::Tls => {
                let server = service("mysql", "TRIPLINE_TEST_MYSQL_TLS")?;
                format!("{server}/{}", database.name())
            }
            _ => database.url(),
        };
        let key = "5a".repeat(32);
        let mut options = vec![
            format!("kafka.bootstrap={kafka}"),
            format!("mysql.url={mysql}"),
            format!("redis.url={redis}"),
            format!("redis.prefix={run}:"),
            format!("topics.prefix={run}-"),
            format!("topics.group={run}"),
            format!("server.fingerprint_key={key}"),
            "mysql.connections_max=8".to_owned(),
        ];
        if over == Over::Tls {
            options.extend(tls());
        }
        let upstream = mysql.rsplit_once('@').and_then(|(_, place)| place.split('/').next());
        let proxy = Proxy::open(&format!("{run}-mysql"), upstream?);
        let broker = Prefixed::over(Arc::new(broker), &format!("{run}-"));
        Some(Self { run: run.to_owned(), kafka, broker, database, mysql, options, proxy })
    }
}

/// The options with which Kafka, MySQL and the servers speak TLS, with a login at Kafka.
fn tls() -> Vec<String> {
    let of = |name: &str| std::env::var(name).unwrap();
    let (ca, certificate) = (of("TRIPLINE_TEST_CA"), of("TRIPLINE_TEST_CERTIFICATE"));
    vec![
        format!("kafka.bootstrap={}", of("TRIPLINE_TEST_KAFKA_SASL")),
        "kafka.tls=true".to_owned(),
        format!("kafka.root_ca_file={ca}"),
        "kafka.sasl_mechanism=scram-sha-512".to_owned(),
        "kafka.sasl_username=alice".to_owned(),
        format!("kafka.sasl_password={}", of("TRIPLINE_TEST_KAFKA_PASSWORD")),
        "topics.replication_factor=1".to_owned(),
        "topics.min_insync_replicas=1".to_owned(),
        format!("mysql.root_ca_file={ca}"),
        format!("server.grpc.tls_cert={certificate}"),
        format!("server.grpc.tls_key={certificate}"),
    ]
}

/// One process.
pub(crate) struct Node {
    pub(crate) roles: &'static str,
    folder: PathBuf,
    serve: Option<Serve>,
}

/// The processes of a topology.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    pub(crate) servers: watch::Sender<Vec<SocketAddr>>,
    /// Counts the answers that callers got.
    pub(crate) answered: watch::Sender<u64>,
    pub(crate) mail: SmtpServer,
    partitions: u32,
    services: Option<Services>,
    over: Over,
    options: Vec<String>,
    place: TempDir,
}

impl Fleet {
    /// Starts every process at once, and waits until all are ready. `None` where the services are
    /// not.
    pub(crate) async fn start(shape: &Shape) -> Option<Self> {
        let run = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let over = shape.over;
        let services = match over {
            Over::Folder => None,
            _ => Some(Services::find(&run, over).await?),
        };
        let certificate = (over == Over::Tls).then_some("localhost");
        let mail = SmtpServer::start(Script { certificate, ..Script::default() }).await;
        let place = tempfile::tempdir().unwrap();
        let mut options: Vec<String> = [
            "market.source=none",
            "deliver.retry_delays_s=1,1,1,1,1,1,1,1,1,1",
            "deliver.breaker.open_s=1",
            // A notifier that dies leaves its claims behind for as long.
            "deliver.lease_ms=15000",
            "deliver.attempt_timeout_ms=8000",
        ]
        .map(str::to_owned)
        .into();
        options.push(format!("topics.partitions={}", shape.partitions));
        options.push(format!("mail.mailer={}", mail.url()));
        options.extend(services.iter().flat_map(|services| services.options.clone()));
        if over == Over::Tls {
            let trusted = mail.root_ca_file(&place);
            options.push("mail.smtp.tls=required".to_owned());
            options.push(format!("mail.smtp.root_ca_file={}", trusted.display()));
        }
        let node = |(number, roles): (usize, &&'static str)| {
            let folder = place.path().join(format!("{number}-{roles}"));
            Node { roles, folder, serve: None }
        };
        let nodes = shape.roles.iter().enumerate().map(node).collect();
        let (servers, answered) = (watch::Sender::new(Vec::new()), watch::Sender::new(0));
        let partitions = shape.partitions;
        let mut fleet =
            Self { nodes, servers, answered, mail, partitions, services, over, options, place };
        fleet.start_all().await;
        Some(fleet)
    }

    /// The flags that set every option.
    fn flags(&self) -> Vec<String> {
        self.options.iter().flat_map(|option| ["--set".to_owned(), option.clone()]).collect()
    }

    /// The process whose way to the database can be cut.
    pub(crate) fn behind_proxy(&self) -> Option<(usize, &Proxy)> {
        let proxy = self.services.as_ref()?.proxy.as_ref()?;
        let number = self.nodes.iter().position(|node| node.roles == "evaluator")?;
        Some((number, proxy))
    }

    fn launch(&mut self, number: usize) {
        let mut flags = self.flags();
        if let (Some((behind, proxy)), Some(services)) = (self.behind_proxy(), &self.services)
            && behind == number
        {
            let (user, place) = services.mysql.rsplit_once('@').unwrap();
            let (_, name) = place.split_once('/').unwrap();
            flags.extend(["--set".to_owned(), format!("mysql.url={user}@{}/{name}", proxy.listen)]);
        }
        flags.extend(["--roles".to_owned(), self.nodes[number].roles.to_owned()]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let node = &mut self.nodes[number];
        node.serve = Some(Serve::launch_with(&node.folder, &flags, &[], &[]));
    }

    /// Tells the callers where the servers are.
    fn tell_servers(&self) {
        let serves = self.nodes.iter().filter_map(|node| node.serve.as_ref());
        self.servers.send_replace(serves.filter_map(Serve::grpc).collect());
    }

    /// Kills a process and starts it again, which takes as long as it takes.
    pub(crate) async fn kill_and_start(&mut self, number: usize) {
        let serve = self.nodes[number].serve.take().unwrap();
        self.tell_servers();
        serve.kill().await;
        self.launch(number);
        self.nodes[number].serve.as_mut().unwrap().ready().await;
        self.tell_servers();
    }

    /// Sends a process a signal.
    pub(crate) async fn signal(&self, number: usize, name: &str) {
        self.nodes[number].serve.as_ref().unwrap().signal(name).await;
    }

    /// Asks every process to stop, and waits until all have.
    pub(crate) async fn stop(&mut self) {
        self.stop_those(|_| true).await;
    }

    /// The same of those with some roles.
    pub(crate) async fn stop_those(&mut self, roles: impl Fn(&str) -> bool) {
        let those = self.nodes.iter_mut().filter(|node| roles(node.roles));
        let serves: Vec<Serve> = those.filter_map(|node| node.serve.take()).collect();
        self.tell_servers();
        join_all(serves.into_iter().map(Serve::stop)).await;
    }

    /// Starts every process, with another number of partitions.
    pub(crate) async fn start_with(&mut self, partitions: u32) {
        self.partitions = partitions;
        self.options.push(format!("topics.partitions={partitions}"));
        self.start_all().await;
    }

    async fn start_all(&mut self) {
        for number in 0..self.nodes.len() {
            self.launch(number);
        }
        let serves = self.nodes.iter_mut().filter_map(|node| node.serve.as_mut());
        join_all(serves.map(Serve::ready)).await;
        self.tell_servers();
    }

    /// A command over the same services.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tripline"));
        command.args(arguments).args(self.flags()).current_dir(self.place.path());
        command.arg("--data-dir").arg(&self.nodes[0].folder).stdin(Stdio::null());
        command
    }

    /// The log between the processes, the name of the run in Kafka, and Kafka's brokers.
    pub(crate) fn broker(&self) -> Option<(&dyn Broker, &str, &str)> {
        let services = self.services.as_ref()?;
        Some((services.broker.as_ref(), &services.run, &services.kafka))
    }

    /// The first feeder comes from the host, not over the API.
    pub(crate) async fn add_feeder(&self) {
        let password = self.place.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let mut add = self.command(&["user", "add", FEEDER, "--role", "feeder"]);
        let add = add.arg("--password-file").arg(password).output().await.unwrap();
        assert!(add.status.success(), "{}", String::from_utf8_lossy(&add.stderr));
    }

    pub(crate) fn caller(&self, email: &str) -> Caller {
        let tls = (self.over == Over::Tls).then(|| {
            let ca = std::fs::read(std::env::var_os("TRIPLINE_TEST_CA").unwrap()).unwrap();
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca))
        });
        Caller::new(email, self.servers.subscribe(), self.answered.clone()).over(tls)
    }

    /// The mails that have arrived, over the kind of connection that they must come over.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let taken = self.mail.taken();
        assert!(taken.iter().all(|mail| mail.encrypted == (self.over == Over::Tls)));
        taken.iter().map(|mail| Mail::of_message(&mail.message())).collect()
    }

    /// The store.
    pub(crate) async fn database(&self) -> Database {
        match &self.services {
            Some(services) => Database::of_url(&services.database.url()).await,
            None => Database::of_folder(&self.nodes[0].folder).await,
        }
    }

    /// Waits until all that was accepted is evaluated and everything told has ended somewhere; the
    /// log holds at least `ticks` then.
    pub(crate) async fn settled(&self, ticks: u64, patience: Duration) {
        let Some(services) = &self.services else {
            return settled(&self.nodes[0].folder, ticks).await;
        };
        let mut store = self.database().await;
        let mut seen = (0, 0, 0);
        let settling = async {
            let mut again = tokio::time::interval(Duration::from_millis(100));
            loop {
                again.tick().await;
                let mut end = 0;
                for partition in (0..self.partitions).map(Partition) {
                    end += match services.broker.bounds(TICKS_TOPIC, partition).await {
                        Ok(bounds) => bounds.end.0,
                        Err(_) => u64::MAX / 100,
                    };
                }
                let row = store.rows(
                    "SELECT CAST((SELECT COALESCE(SUM(position), 0) FROM partitions \
                             WHERE topic = 'to-alert-system') AS SIGNED), \
                            CAST((SELECT COUNT(*) FROM changes) \
                     + (SELECT COUNT(*) FROM deliveries WHERE state IN ('pending', 'claimed')) \
                     + (SELECT COUNT(*) FROM alerts \
                        WHERE id NOT IN (SELECT alert_id FROM deliveries)) AS SIGNED)",
                );
                let row = row.await.remove(0);
                let (read, open) = (row[0].number().cast_unsigned(), row[1].number());
                if end >= ticks && read == end && open == 0 {
                    return;
                }
                seen = (end, read, open);
            }
        };
        let settled = tokio::time::timeout(patience, settling).await;
        let (end, read, open) = seen;
        assert!(settled.is_ok(), "the log ends at {end}, {read} are evaluated, {open} are open");
    }
}
