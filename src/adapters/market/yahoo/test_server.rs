//! A local HTTP server for tests that answers as it is told, well-formed or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Clone)]
pub(super) enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then silence.
    Hang(Vec<u8>),
}

/// A reply with a body, and with headers that each end in CR LF.
pub(super) fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// An answer of the chart API with one close, of the first second of 2026.
pub(super) fn chart(currency: &str, close: &str) -> String {
    format!(
        r#"{{"chart":{{"result":[{{"meta":{{"currency":"{currency}"}},"timestamp":[1767225600],
        "indicators":{{"quote":[{{"close":[{close}]}}]}}}}],"error":null}}}}"#
    )
}

/// Serves at a port of its own. The n-th request, from 0, with the given first line, gets what
/// `answer` says. Gives the address and the count of requests.
pub(super) async fn start(
    answer: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (requests.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, counter.clone(), answer.clone()));
        }
    });
    (address, requests)
}

/// The same over TLS, for `localhost`; gives the PEM of its certificate as well.
pub(super) async fn start_tls(
    answer: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
) -> (SocketAddr, String, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (requests.clone(), Arc::new(answer));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counter, answer) = (acceptor.clone(), counter.clone(), answer.clone());
            tokio::spawn(async move {
                // A peer that does not trust us hangs up.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, counter, answer).await;
                }
            });
        }
    });
    (address, made.cert.pem(), requests)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: Arc<AtomicUsize>,
    answer: Arc<impl Fn(usize, &str) -> Reply>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8(request).unwrap();
    assert!(text.contains("user-agent: tripline-test\r\n") && !text.contains("cookie"), "{text}");
    let n = requests.fetch_add(1, Ordering::SeqCst);
    match answer(n, text.lines().next().unwrap()) {
        // The peer may have hung up.
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Hang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut [0]).await;
        }
    }
}
