//! Connections: a bounded number of them, each with its own state for as long as it lives.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Extensions;
use tonic::transport::server::Connected;

use super::legacy::Authorised;

/// What calls learn of their connection, over TLS as well.
#[derive(Clone, Debug)]
pub(super) struct ConnInfo {
    peer: SocketAddr,
    authorised: Arc<Authorised>,
}

impl ConnInfo {
    /// The accounts authorised on this connection.
    pub(super) fn authorised(&self) -> &Authorised {
        &self.authorised
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
}

impl Incoming {
    pub(super) async fn bind(addr: SocketAddr, connections_max: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        Ok(Self { listener, permits: Arc::new(Semaphore::new(connections_max.max(1))) })
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
                    let info = ConnInfo { peer, authorised: Arc::default() };
                    return Ok(Connection { stream, info, _permit: permit });
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
