//! `tripline health`: asks the process of this host whether it is ready.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output::print;
use super::settings::SettingsArgs;
use crate::config::Flag;

const EXAMPLE: &str = "\
Example:
  $ tripline health
  {\"not_ready\":{},\"ready\":true}

In a container file: HEALTHCHECK CMD [\"tripline\", \"health\"]
Exit status: 0 ready, 1 not.";

/// How long connecting, sending, and each part of the answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// Asks the process of this host whether it is ready, and prints what it answers.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct Health {
    /// Where the process serves /readyz. [default: server.http.listen, 127.0.0.1:9999]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,

    #[command(flatten)]
    settings: SettingsArgs,
}

impl Health {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (name, key) = ("--http".to_owned(), "server.http.listen".to_owned());
        let flag = self.http.map(|value| Flag { name, key, value });
        let settings = self.settings.load(flag.into_iter().collect())?.settings;
        let addr = reachable(settings.server.http.listen);
        let failed = |cause: String| {
            Failure::failed(format!("expected an answer from http://{addr}/readyz, found: {cause}"))
                .or_next("is `tripline serve` running here? --http ADDR names another address")
        };
        let answer = ask(addr).map_err(|error| failed(error.to_string()))?;
        let (status, body) = read(&answer).ok_or_else(|| {
            failed(format!("no HTTP, but {:?}", answer.get(..40).unwrap_or(&answer)))
        })?;
        print(body)?;
        match status {
            200 => Ok(()),
            status => Err(Failure::failed(format!("not ready (status {status})"))),
        }
    }
}

/// The address under which this host reaches a listener: one that listens on all is here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection and is in one piece.
    stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The status and the body of an answer.
fn read(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then_some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_what_is_none() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\n{}\n";
        assert_eq!(read(answer), Some((503, "{}\n")));
        for bad in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 \r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_on_this_host() {
        for (listen, addr) in [
            ("0.0.0.0:9999", "127.0.0.1:9999"),
            ("[::]:9999", "[::1]:9999"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), addr.parse().unwrap());
        }
    }
}
