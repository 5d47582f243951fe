//! Bytes from one descriptor to another, on the shim's one thread: exec streams, terminals between named pipes, stdin. Each
//! pump holds a buffer only while bytes flow. It knows no processes; [`Cut`] tells it that its process has ended.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Context, Result};

/// A descriptor that the shim's thread can wait for.
pub type Async = AsyncFd<OwnedFd>;

/// Per pump, while bytes flow: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Bytes have ceased to flow when none come for so long.
const QUIET: Duration = Duration::from_secs(1);

/// What a pipe can hold that was written before the end of a process: read after the deadline, no more.
const LEFTOVER: usize = 64 << 10;

/// Makes it non-blocking and waitable.
#[expect(
    deprecated,
    reason = "its replacement is unsafe for types that may lie about their descriptor; OwnedFd doesn't"
)]
pub fn asynchronous(fd: OwnedFd) -> Result<Async> {
    let what = || "wait for a stream";
    rustix::io::ioctl_fionbio(&fd, true).what(what)?;
    AsyncFd::with_interest(fd, Interest::READABLE | Interest::WRITABLE).what(what)
}

/// When reading a process's output ends though someone else holds it open: told by the process's end.
#[derive(Debug, Clone)]
pub struct Cut(watch::Receiver<Option<Instant>>);

/// The other side of [`Cut`].
#[derive(Debug)]
pub struct Cutter {
    at: watch::Sender<Option<Instant>>,
    drain: Duration,
}

impl Cutter {
    /// Cuts `drain` after the end.
    pub fn new(drain: Duration) -> Self {
        Self { at: watch::Sender::new(None), drain }
    }

    /// For a pump.
    pub fn cut(&self) -> Cut {
        Cut(self.at.subscribe())
    }

    /// The process has ended.
    pub fn ended(&self) {
        self.at.send_replace(Some(Instant::now() + self.drain));
    }
}

impl Cut {
    /// Returns at the cut; at once if whoever would tell is gone.
    async fn wait(&mut self) {
        if let Ok(at) = self.0.wait_for(Option::is_some).await.map(|at| *at)
            && let Some(at) = at
        {
            tokio::time::sleep_until(at).await;
        }
    }

    /// As [`Self::wait`] says.
    fn is_past(&self) -> bool {
        match *self.0.borrow() {
            Some(at) => at <= Instant::now(),
            None => self.0.has_changed().is_err(),
        }
    }
}

/// From a process to somewhere, until its end, the cut, or an error of either side. What is there at the cut still comes.
pub async fn output(from: Arc<Async>, to: Option<Arc<Async>>, mut cut: Cut) {
    let (mut left, mut buffer) = (LEFTOVER, Buffer::default());
    loop {
        let length = tokio::select! {
            biased;
            length = buffer.read(&from) => length,
            // The descriptor itself is asked: that there is something may not have been told yet.
            () = cut.wait() => buffer.read_now(&from),
        };
        let Ok(length @ 1..) = length else { return };
        if let Some(to) = &to
            && write(to, &buffer.0[..length]).await.is_err()
        {
            return;
        }
        if cut.is_past() {
            left = left.saturating_sub(length);
            if left == 0 {
                return;
            }
        }
    }
}

/// From a client to a process's stdin, until either ends, or the cut: a process that reads nothing would keep what waits for it. Returns
/// whether the client said that it was all.
pub async fn input(from: Async, to: Weak<Async>, mut cut: Cut) -> bool {
    tokio::select! {
        biased;
        all_said = typed(from, to) => all_said,
        () = cut.wait() => false,
    }
}

async fn typed(from: Async, to: Weak<Async>) -> bool {
    let mut buffer = Buffer::default();
    loop {
        let length = match buffer.read(&from).await {
            Ok(0) => return true,
            Ok(length) => length,
            Err(_) => return false,
        };
        let Some(to) = to.upgrade() else { return false };
        if write(&to, &buffer.0[..length]).await.is_err() {
            return false;
        }
    }
}

/// What a pump reads into; there while bytes flow.
#[derive(Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    /// How many bytes have come; 0 at the end. A terminal whose other ends are all closed says EIO.
    async fn read(&mut self, from: &Async) -> Result<usize, Errno> {
        loop {
            let mut guard = self.wait(from).await?;
            match self.read_now(from) {
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::IO) => return Ok(0),
                read => return read,
            }
        }
    }

    async fn wait<'a>(&mut self, from: &'a Async) -> Result<AsyncFdReadyGuard<'a, OwnedFd>, Errno> {
        if !self.0.is_empty() {
            if let Ok(ready) = tokio::time::timeout(QUIET, from.readable()).await {
                return ready.map_err(|_| Errno::IO);
            }
            self.0 = Vec::new();
        }
        from.readable().await.map_err(|_| Errno::IO)
    }

    /// What is there; an error where nothing is.
    fn read_now(&mut self, from: &Async) -> Result<usize, Errno> {
        if self.0.is_empty() {
            self.0 = vec![0; CHUNK];
        }
        rustix::io::retry_on_intr(|| rustix::io::read(from.get_ref(), &mut self.0[..]))
    }
}

async fn write(to: &Async, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut guard = to.writable().await.map_err(|_| Errno::IO)?;
        match rustix::io::write(to.get_ref(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_words_of_a_process_that_is_forgotten_still_come() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        std::fs::File::from(write).write_all(b"last words").unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let cutter = Cutter::new(Duration::from_secs(10));
        let cut = cutter.cut();
        drop(cutter);
        // Nobody has told the shim's thread yet that there is something to read.
        let from = Arc::new(asynchronous(read).unwrap());
        output(from, Some(Arc::new(asynchronous(theirs.into()).unwrap())), cut).await;
        let mut seen = String::new();
        ours.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "last words");
    }
}
