//! A connection in the clear that may become an encrypted one: whatever came with the reply to
//! STARTTLS and before the encryption could be anybody's, and must not pass for the server's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A reply that is longer is none.
const REPLY_BYTES_MAX: usize = 4_096;

/// Ends the conversation with an error if the server says more than its reply to STARTTLS.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// STARTTLS was not said.
    Before,
    /// It was, and this is the reply so far.
    Asked(Vec<u8>),
    /// It was answered.
    After,
}

impl Guarded {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, stage: Stage::Before }
    }

    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Stage::Asked(reply) = &mut self.stage else { return Ok(()) };
        reply.extend_from_slice(bytes);
        match end_of_reply(reply) {
            Some(end) if end == reply.len() => self.stage = Stage::After,
            None if reply.len() <= REPLY_BYTES_MAX => {}
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "more than the reply to STARTTLS came in the clear; somebody may be in between",
                ));
            }
        }
        Ok(())
    }
}

/// Where a reply ends: after the first line whose code is not followed by a dash.
fn end_of_reply(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        if line.ends_with(b"\n") && line.get(3) != Some(&b'-') {
            return Some(end);
        }
    }
    None
}

impl AsyncTokioStream for Guarded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.heard(&buf.filled()[before..]))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.stage, Stage::Before) && buf.starts_with(b"STARTTLS") {
            self.stage = Stage::Asked(Vec::new());
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_with_its_last_line() {
        for (bytes, end) in [
            ("220 go\r\n", Some(8)),
            ("220 go\r\n250 injected\r\n", Some(8)),
            ("220-one\r\n220 two\r\n", Some(18)),
            ("220-one\r\n", None),
            ("220 go", None),
            ("", None),
        ] {
            assert_eq!(end_of_reply(bytes.as_bytes()), end, "{bytes:?}");
        }
    }
}
