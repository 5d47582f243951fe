//! A connection after its upgrade: two byte directions, with what the HTTP server had already read put back in front.
//!
//! Closing it so that the peer gets everything is here too; what the bytes mean is not.

use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::time::timeout;

use super::room::Unfinished;
use super::socket::Socket;

/// How long a peer may take to close after we did.
const LINGER: Duration = Duration::from_secs(5);

/// Held by each connection.
const BUFFER: usize = 8 * 1024;

/// From the peer.
pub type ReadSide = Box<dyn AsyncRead + Send + Unpin>;

/// To the peer.
pub type WriteSide = Box<dyn AsyncWrite + Send + Unpin>;

/// Both directions of a connection.
pub struct Wire {
    /// From the peer.
    pub read: ReadSide,
    /// To the peer.
    pub write: WriteSide,
}

impl Wire {
    /// The connection `io`, of which `before` was read already.
    pub fn new<Io>(io: Io, before: Bytes) -> Self
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(io);
        Self { read: buffered(before, read), write: Box::new(write) }
    }

    /// The same for a connection without TLS, whose halves need no lock.
    pub fn plain(socket: Socket, before: Bytes) -> Self {
        Self { read: buffered(before, socket.clone()), write: Box::new(socket) }
    }
}

/// Heads of frames are a few bytes: they come with what follows them. Large reads go past the buffer.
fn buffered(before: Bytes, read: impl AsyncRead + Send + Unpin + 'static) -> ReadSide {
    Box::new(BufReader::with_capacity(BUFFER, Cursor::new(before).chain(read)))
}

/// What is read counts as part of a message.
pub fn counted(read: ReadSide, unfinished: Unfinished) -> ReadSide {
    Box::new(Counted { read, unfinished })
}

struct Counted {
    read: ReadSide,
    unfinished: Unfinished,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.read).poll_read(task, buffer))?;
        Poll::Ready(self.unfinished.add(buffer.filled().len() - before))
    }
}

/// Closes both directions: ours first, then waits until the peer has closed its own. Without that wait, bytes of the peer
/// that nobody reads would turn into a TCP reset, and a reset throws away what the peer hasn't read yet.
pub async fn close(mut read: ReadSide, mut write: WriteSide) {
    let _ = write.shutdown().await;
    let mut rest = [0; 4096];
    let drained = async { while matches!(read.read(&mut rest).await, Ok(count) if count > 0) {} };
    let _ = timeout(LINGER, drained).await;
}
