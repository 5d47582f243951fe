//! The socket on which `rt` hands over a terminal. It does not read or write the terminal.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::error::{Context, Error, Kind, Result};

/// Dropped: the socket's file is removed.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens at a path that nobody uses.
    pub fn open(path: PathBuf) -> Result<Self> {
        let what = || format!("listen for a terminal at {}", path.display());
        let listener = UnixListener::bind(&path).what(what)?;
        listener.set_nonblocking(true).what(what)?;
        Ok(Self { listener, path })
    }

    /// For `--console-socket`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal, which `rt` has sent before it left.
    pub fn receive(&self) -> Result<OwnedFd> {
        let what = || "receive the terminal";
        let (connection, _) = self.listener.accept().what(what)?;
        connection.set_nonblocking(true).what(what)?;
        let mut word = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&connection, &mut [IoSliceMut::new(&mut word)], &mut ancillary, flags).what(what)?;
        let terminal = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        terminal.ok_or_else(|| Error::new(Kind::Internal, "receive the terminal: rt sent none"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
