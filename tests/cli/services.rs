//! `tripline wait` and `tripline health`, against servers that come, answer, or are missing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::user::User;

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
