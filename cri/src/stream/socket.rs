//! A client's connection as the kernel sees it: whether the client is there, and whether anybody listens to it. What waits in front of a
//! process that reads nothing hides the end of its client, so that end is not looked for in the bytes. It knows no protocol.

use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::connections::{Guest, UNHEARD};

/// A connection. It is closed when the last of its copies is gone, or by [`Socket::end`].
#[derive(Debug, Clone)]
pub struct Socket {
    tcp: Arc<TcpStream>,
    guest: Arc<Guest>,
}

impl Socket {
    /// Of a guest of the listener's, who is told when nobody listens.
    pub fn new(tcp: TcpStream, guest: Arc<Guest>) -> Self {
        Self { tcp: Arc::new(tcp), guest }
    }

    /// Returns when the client has gone and what it said last was not listened to in time. While it is listened to, whoever listens sees
    /// the end himself.
    pub async fn gone(&self) {
        loop {
            match self.tcp.ready(Interest::PRIORITY).await {
                // KERNEL: EPOLLRDHUP, which no unread byte holds up.
                Ok(ready) if ready.is_read_closed() => break,
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
        loop {
            let unheard = self.guest.unheard();
            let left = UNHEARD.saturating_sub(unheard.unwrap_or_default());
            if left.is_zero() {
                return;
            }
            sleep(left.max(Duration::from_millis(1))).await;
        }
    }

    /// Ends it in both directions, whoever still has a copy: none of them waits for the client any more.
    pub fn end(&self) {
        let _ = rustix::net::shutdown(&*self.tcp, Shutdown::Both); // one that has ended already is what is meant
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.guest.is_heard();
        loop {
            ready!(self.tcp.poll_read_ready(task))?;
            match self.tcp.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    self.guest.is_not_heard();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    fn poll_put(
        &self,
        task: &mut Context<'_>,
        put: impl Fn(&TcpStream) -> Result<usize>,
    ) -> Poll<Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(task))?;
            match put(&self.tcp) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_put(task, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.poll_put(task, |tcp| tcp.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.tcp, Shutdown::Write).map_err(Error::from))
    }
}
