//! Connections: a bounded number of them, each with its own state for as long as it lives.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::Extensions;
use tonic::transport::server::Connected;

use super::legacy::Authorised;

/// What calls learn of their connection, over TLS as well.
#[derive(Clone, Debug)]
pub(super) struct ConnInfo {
    peer: SocketAddr,
    authorised: Arc<Authorised>,
    probe_streams: Arc<AtomicUsize>,
}

impl ConnInfo {
    /// The accounts authorised on this connection.
    pub(super) fn authorised(&self) -> &Authorised {
        &self.authorised
    }

    /// How many streams that need no login are open on this connection.
    pub(super) fn probe_streams(&self) -> &Arc<AtomicUsize> {
        &self.probe_streams
    }
}

/// The address that a call comes from.
pub(super) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnInfo>().map(|connection| connection.peer.ip())
}

/// A listener that takes a connection only while fewer than its bound are open; others wait in
/// the operating system's queue.
pub(super) struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    silence: Silence,
}

/// How long a connection may send nothing: a peer that only opens connections would else keep
/// their places for ever.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// Before its first byte.
    pub(super) first: Duration,
    /// After each byte.
    pub(super) later: Duration,
}

impl Incoming {
    pub(super) async fn bind(
        addr: SocketAddr,
        connections_max: usize,
        silence: Silence,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let permits = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self { listener, permits: Arc::new(Semaphore::new(permits)), silence })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    async fn next(&self) -> io::Result<Connection> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Without it, answers wait for the peer's delayed acknowledgements.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, %peer, "a connection ended as it came");
                        continue;
                    }
                    let info = ConnInfo {
                        peer,
                        authorised: Arc::default(),
                        probe_streams: Arc::default(),
                    };
                    return Ok(Connection {
                        stream,
                        info,
                        silence: Box::pin(tokio::time::sleep(self.silence.first)),
                        later: self.silence.later,
                        _permit: permit,
                    });
                }
                Err(error) => {
                    // Mostly no file descriptors are left: trying at once would burn a core.
                    tracing::warn!(%error, "a connection can't be accepted now");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// The connections as they come.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        futures::stream::unfold(self, |incoming| async { Some((incoming.next().await, incoming)) })
    }
}

impl axum::serve::Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            if let Ok(connection) = self.next().await {
                let peer = connection.info.peer;
                return (connection, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection, which makes room for another when it is dropped.
pub(super) struct Connection {
    stream: TcpStream,
    info: ConnInfo,
    /// Over when nothing was read for too long.
    silence: Pin<Box<Sleep>>,
    later: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            let silence = self.silence.as_mut().poll(cx);
            return silence.map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        if buf.filled().len() > before {
            let end = Instant::now() + self.later;
            self.silence.as_mut().reset(end);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_silent_connection_is_closed() {
        let ms = Duration::from_millis;
        let silence = Silence { first: ms(20), later: ms(60_000) };
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut incoming = Incoming::bind(addr, 2, silence).await.unwrap();
        let addr = incoming.local_addr().unwrap();
        let mut buffer = [0; 8];

        let _silent = TcpStream::connect(addr).await.unwrap();
        let mut connection = incoming.next().await.unwrap();
        let error = connection.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        // The first byte gives it the time of the later ones.
        let mut peer = TcpStream::connect(addr).await.unwrap();
        peer.write_all(b"a").await.unwrap();
        let mut connection = incoming.next().await.unwrap();
        assert_eq!(connection.read(&mut buffer).await.unwrap(), 1);
        let left = connection.silence.deadline() - Instant::now();
        assert!(left > ms(30_000), "{left:?}");

        incoming.silence.later = ms(20);
        drop(connection);
        peer = TcpStream::connect(addr).await.unwrap();
        peer.write_all(b"a").await.unwrap();
        let mut connection = incoming.next().await.unwrap();
        assert_eq!(connection.read(&mut buffer).await.unwrap(), 1);
        let error = connection.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
