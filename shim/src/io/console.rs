//! The socket on which `rt` hands over a terminal. It does not read or write the terminal.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::error::{Context, Error, Kind, Result};

/// Dropped: the socket's file is removed.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    file: PathBuf,
    path: PathBuf,
    /// [`Self::path`] leads through it.
    _dir: OwnedFd,
}

impl Console {
    /// Listens at a path that nobody uses. It may be long: a socket's address has 107 bytes, so it goes by the directory's
    /// descriptor.
    pub fn open(file: PathBuf) -> Result<Self> {
        let what = || format!("listen for a terminal at {}", file.display());
        let (Some(place), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(Error::invalid(what()));
        };
        let dir = rustix::fs::open(place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .what(what)?;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), dir.as_raw_fd())).join(name);
        let listener = UnixListener::bind(&path).what(what)?;
        listener.set_nonblocking(true).what(what)?;
        Ok(Self { listener, path, file, _dir: dir })
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
        let _ = std::fs::remove_file(&self.file);
    }
}
