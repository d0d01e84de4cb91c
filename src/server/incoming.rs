//! Connections: a bounded number of them, each with its own state for as long as it lives.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::Extensions;
use tonic::transport::server::Connected;

use super::legacy::Authorised;

/// What calls learn of their connection, over TLS as well.
#[derive(Clone, Debug)]
pub(super) struct ConnInfo {
    peer: SocketAddr,
    life: Life,
    probe_streams: Arc<AtomicUsize>,
}

impl ConnInfo {
    /// The accounts authorised on this connection.
    pub(super) fn authorised(&self) -> &Arc<Authorised> {
        &self.life.authorised
    }

    /// How many streams that need no login are open on this connection.
    pub(super) fn probe_streams(&self) -> &Arc<AtomicUsize> {
        &self.probe_streams
    }
}

/// What decides when a connection ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// The accounts authorised on it.
    pub(super) authorised: Arc<Authorised>,
    /// Its streams are to end.
    pub(super) ending: CancellationToken,
    /// It is to end, whatever goes on over it.
    pub(super) cut: CancellationToken,
    /// It has ended.
    pub(super) closed: CancellationToken,
}

/// The address that a call comes from.
pub(super) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnInfo>().map(|connection| connection.peer.ip())
}

/// Says when the streams of a call's connection are to end.
pub(super) fn ending(extensions: &Extensions) -> CancellationToken {
    let connection = extensions.get::<ConnInfo>();
    connection.map(|connection| connection.life.ending.clone()).unwrap_or_default()
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

    /// The next connection. Cancel-safe.
    pub(super) async fn next(&self) -> io::Result<Connection> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Without it, answers wait for the peer's delayed acknowledgements.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, %peer, "a connection ended as it came");
                        continue;
                    }
                    let life = Life::default();
                    return Ok(Connection {
                        stream,
                        cut: Box::pin(life.cut.clone().cancelled_owned()),
                        _closed: life.closed.clone().drop_guard(),
                        info: ConnInfo { peer, probe_streams: Arc::default(), life },
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
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _closed: DropGuard,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// What decides when it ends.
    pub(super) fn life(&self) -> Life {
        self.info.life.clone()
    }
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
            let over = self.silence.as_mut().poll(cx).is_ready();
            let over = over || self.cut.as_mut().poll(cx).is_ready();
            return if over { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { read };
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
