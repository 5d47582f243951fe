//! The gate of an `rt exec`: it may be launched before its process is wanted, is told when it is, and says when the process executes.
//! That is earlier than its own end, which nobody has to wait for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::FdFlags;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::error::{Context, Result};

/// A pid in decimal, and a line's end.
const LONGEST: usize = 16;

/// Our end.
#[derive(Debug)]
pub struct Gate(UnixStream);

/// Ours, and the end that `rt` inherits.
pub fn pair() -> Result<(Gate, OwnedFd)> {
    let make = || -> io::Result<_> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Gate(UnixStream::from_std(ours)?), OwnedFd::from(theirs)))
    };
    make().what(|| "make a gate for rt")
}

/// Lets programs inherit a descriptor; gives the number that it has there, too.
pub fn inherit(end: &OwnedFd) -> Result<i32> {
    rustix::io::fcntl_setfd(end, FdFlags::empty()).what(|| "let rt inherit a descriptor")?;
    Ok(end.as_raw_fd())
}

impl Gate {
    /// The process is wanted.
    pub fn open(&self) {
        // One that has died says so by its end.
        let _ = send(&self.0, b"\n", SendFlags::NOSIGNAL);
    }

    /// Waits for the process to execute; gives its pid. None: `rt` has gone, and says why by its end.
    pub async fn passed(&self) -> Option<u32> {
        self.0.async_io(Interest::READABLE, || self.said()).await.ok()?
    }

    /// The same, if it is known.
    pub fn said(&self) -> io::Result<Option<u32>> {
        let mut line = [0; LONGEST];
        let (read, _) = recv(&self.0, &mut line, RecvFlags::empty())?;
        Ok(std::str::from_utf8(&line[..read]).ok().and_then(|line| line.trim_end().parse().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_opens_and_says_the_pid() {
        let (gate, theirs) = pair().expect("a gate");
        assert_eq!(gate.said().expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
        gate.open();
        assert_eq!(recv(&theirs, &mut [0; 4], RecvFlags::empty()).expect("opened").0, 1);
        send(&theirs, b"4711\n", SendFlags::empty()).expect("say");
        assert_eq!(gate.passed().await, Some(4711));
    }

    #[tokio::test]
    async fn who_has_gone_says_nothing() {
        let (gate, theirs) = pair().expect("a gate");
        drop(theirs);
        gate.open();
        assert_eq!(gate.passed().await, None);
        assert_eq!(gate.said().ok().flatten(), None);
    }
}
