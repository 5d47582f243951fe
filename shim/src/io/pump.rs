//! Bytes from one descriptor to another, on the shim's one thread: exec streams, terminals between named pipes, stdin. Each
//! pump holds a buffer only while bytes flow. It knows no processes; [`Cut`] tells it that its process has ended.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Context, Result};

/// A descriptor that the shim's thread can wait for.
pub type Async = AsyncFd<OwnedFd>;

/// Per pump, while bytes flow.
const CHUNK: usize = 16 << 10;

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
    let mut left = LEFTOVER;
    loop {
        let bytes = tokio::select! {
            biased;
            bytes = read(&from) => bytes,
            // The descriptor itself is asked: that there is something may not have been told yet.
            () = cut.wait() => read_now(&from),
        };
        let Ok(bytes) = bytes else { return };
        if bytes.is_empty() {
            return;
        }
        if let Some(to) = &to
            && write(to, &bytes).await.is_err()
        {
            return;
        }
        if cut.is_past() {
            left = left.saturating_sub(bytes.len());
            if left == 0 {
                return;
            }
        }
    }
}

/// From a client to a process's stdin, until either ends. Returns whether the client said that it was all.
pub async fn input(from: Async, to: Weak<Async>) -> bool {
    loop {
        let Ok(bytes) = read(&from).await else { return false };
        if bytes.is_empty() {
            return true;
        }
        let Some(to) = to.upgrade() else { return false };
        if write(&to, &bytes).await.is_err() {
            return false;
        }
    }
}

/// Empty at the end. A terminal whose other ends are all closed says EIO.
async fn read(from: &Async) -> Result<Vec<u8>, Errno> {
    loop {
        let mut guard = from.readable().await.map_err(|_| Errno::IO)?;
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(from.get_ref(), &mut buffer[..]) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(Errno::IO) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    }
}

/// What is there; an error where nothing is.
fn read_now(from: &Async) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; CHUNK];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(from.get_ref(), &mut buffer[..]))?;
    buffer.truncate(length);
    Ok(buffer)
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
