//! A way to the database through Toxiproxy, which can be cut.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::services::service;

/// One proxy; it is gone when this is dropped.
pub(crate) struct Proxy {
    /// Toxiproxy itself, `HOST:PORT`.
    api: String,
    name: String,
    /// Where it listens.
    pub(crate) listen: String,
}

impl Proxy {
    /// A proxy to `upstream`; `None` where there is no Toxiproxy.
    pub(crate) fn open(name: &str, upstream: &str) -> Option<Self> {
        let url = service("toxiproxy", "TRIPLINE_TEST_TOXIPROXY")?;
        let api = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let body = serde_json::json!({
            "name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true,
        });
        let made = call(&api, "POST", "/proxies", &body.to_string());
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let listen = made["listen"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Some(Self { api, name: name.to_owned(), listen })
    }

    /// Lets everything through, or nothing: connections are closed then, and none is taken.
    pub(crate) fn set(&self, enabled: bool) {
        let body = serde_json::json!({ "enabled": enabled }).to_string();
        call(&self.api, "POST", &format!("/proxies/{}", self.name), &body);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        call(&self.api, "DELETE", &format!("/proxies/{}", self.name), "");
    }
}

fn call(api: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(api).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nUser-Agent: test\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
