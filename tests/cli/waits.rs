//! `tripline wait` and `tripline health`, against servers that come, answer, are missing, or are not
//! to be trusted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::authority::stranger;
use crate::mysql_server::Database;
use crate::services::service;
use crate::user::{Ended, User, end};

/// An address on which nothing listens.
fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server that gives one connection one answer, and returns what it was asked.
fn answering(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut asked = [0; 1_024];
        let length = stream.read(&mut asked).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&asked[..length]).into_owned()
    });
    (addr, asked)
}

#[tokio::test]
async fn a_port_is_waited_for_until_it_is_there() {
    let user = User::new().await;
    let addr = free_addr();
    let mut child = user.command(&["wait", "--tcp", &addr.to_string()]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let missing = lines.next_line().await.unwrap().unwrap();
    let expected = format!("{addr}: expected a server, found: Connection refused (os error 111)");
    assert_eq!(missing, expected);
    let _listener = TcpListener::bind(addr).unwrap();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), format!("{addr}: there"));
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn what_is_missing_to_the_end_is_named() {
    let user = User::new().await;
    let (here, gone) = (TcpListener::bind("127.0.0.1:0").unwrap(), free_addr().to_string());
    let here = here.local_addr().map(|addr| (here, addr.to_string())).unwrap();
    let mysql = format!("mysql://ann:secret@{gone}/tripline");
    let args = ["wait", "--tcp", &here.1, "--tcp", &gone, "--kafka", &gone, "--mysql", &mysql];
    let args = [&args[..], &["--timeout-s", "1"]].concat();
    let ended = user.run(&args, "").await;
    let error = ended.err.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.starts_with(&format!("error: missing after 1 s: {gone} (expected a server")));
    for part in [&format!("; kafka {gone} ("), &format!("; mysql://{gone}/tripline (")] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains(&here.1) && !ended.err.contains("secret"), "{}", ended.err);
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
}

#[tokio::test]
async fn waiting_for_nothing_or_for_nonsense_is_wrong_usage() {
    let user = User::new().await;
    for (args, part) in [
        (&["wait"][..], "found none of --tcp, --kafka, --mysql"),
        (&["wait", "--tcp", "redis"], "--tcp: expected HOST:PORT, found \"redis\""),
        (&["wait", "--topics"], "--kafka"),
    ] {
        let ended = user.run(args, "").await;
        assert_eq!(ended.code, 2, "{args:?}");
        assert!(ended.err.contains(part), "{args:?}: {}", ended.err);
    }
}

#[tokio::test]
async fn something_that_is_no_kafka_is_not_taken_for_one() {
    let user = User::new().await;
    let (addr, _) = answering("HTTP/1.1 400 Bad Request\r\n\r\n");
    let ended = user.run(&["wait", "--kafka", &addr.to_string(), "--timeout-s", "1"], "").await;
    assert_eq!(ended.code, 1, "{ended:?}");
}

/// What waiting comes to with options in the environment, as the image's users give them.
async fn waited(what: &str, options: &[(&str, &str)]) -> Ended {
    let user = User::new().await;
    let mut command = user.command(&["wait", what, "--timeout-s", "2"]);
    command.envs(options.iter().copied());
    end(command, "").await
}

/// Waits with the authority that is to be trusted, and with one that signed nothing.
async fn trusted_and_not(what: &str, options: &[(&str, &str)], option: &str) {
    let ca = std::env::var("TRIPLINE_TEST_CA").unwrap();
    let variable = format!("TRIPLINE__{}", option.replace('.', "__").to_uppercase());
    let stranger = stranger();
    for (ca, code, said) in [
        (ca.as_str(), 0, "there".to_owned()),
        (stranger.path().to_str().unwrap(), 1, format!("check {option}")),
        ("missing.pem", 2, format!("{option}: expected PEM certificates in missing.pem")),
    ] {
        let ended = waited(what, &[options, &[(&variable, ca)]].concat()).await;
        assert_eq!(ended.code, code, "{}", ended.err);
        assert!(ended.err.contains(&said), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_database_over_tls_is_trusted_as_the_store_trusts_it() {
    let Some(server) = service("mysql", "TRIPLINE_TEST_MYSQL_TLS") else { return };
    let database = Database::create().await.unwrap();
    let url = format!("{server}/{}", database.name());
    trusted_and_not("--mysql", &[("TRIPLINE__MYSQL__URL", &url)], "mysql.root_ca_file").await;
}

#[tokio::test]
async fn a_broker_over_tls_is_logged_in_to_as_the_adapter_does() {
    let Some(broker) = service("kafka-one", "TRIPLINE_TEST_KAFKA_SASL") else { return };
    let password = std::env::var("TRIPLINE_TEST_KAFKA_PASSWORD").unwrap();
    let mut options = [
        ("TRIPLINE__KAFKA__BOOTSTRAP", broker.as_str()),
        ("TRIPLINE__KAFKA__TLS", "true"),
        ("TRIPLINE__KAFKA__SASL_MECHANISM", "scram-sha-512"),
        ("TRIPLINE__KAFKA__SASL_USERNAME", "alice"),
        ("TRIPLINE__KAFKA__SASL_PASSWORD", &password),
    ];
    trusted_and_not("--kafka", &options, "kafka.root_ca_file").await;
    options[4].1 = "guess";
    let ca = std::env::var("TRIPLINE_TEST_CA").unwrap();
    let options = [&options[..], &[("TRIPLINE__KAFKA__ROOT_CA_FILE", &ca)]].concat();
    let ended = waited("--kafka", &options).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("SaslAuthenticationFailed"), "{}", ended.err);
}

#[tokio::test]
async fn health_is_what_the_process_says() {
    let user = User::new().await;
    for (answer, code, out, err) in [
        ("HTTP/1.0 200 OK\r\n\r\n{\"ready\":true}\n", 0, "{\"ready\":true}\n", ""),
        (
            "HTTP/1.0 503 Service Unavailable\r\n\r\n{\"ready\":false}\n",
            1,
            "{\"ready\":false}\n",
            "error: not ready (status 503)\n",
        ),
    ] {
        let (addr, asked) = answering(answer);
        let ended = user.run(&["health", "--http", &addr.to_string()], "").await;
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (code, out, err));
        assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\n"));
    }
    let gone = free_addr();
    let ended = user.run(&["health", "--http", &gone.to_string()], "").await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("is `tripline serve` running here?"), "{}", ended.err);
}
