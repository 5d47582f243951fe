//! `exec --gate`: who calls does so before the command is wanted, and says when it is. All that does not depend on the moment is done
//! until then.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::process::inherited;

/// Our end of the socket that the caller has the other end of.
#[derive(Debug)]
pub struct Gate(OwnedFd);

impl Gate {
    /// The descriptor must have been inherited; it does not go into the container.
    pub fn take(fd: RawFd) -> Result<Self> {
        inherited(fd)
            .map(Self)
            .what(|| format!("use descriptor {fd} as the gate"))
            .map_err(|error| error.cure("give the number of a connected socket, above 2, that rt inherits"))
    }

    /// Invalid if it is one of the descriptors, from 3 on, that go in.
    pub fn stays_here(&self, go_in: u32) -> Result<()> {
        let fd = self.0.as_raw_fd();
        if i64::from(fd) < 3 + i64::from(go_in) {
            let what = format!("use descriptor {fd} as the gate: it would go into the container");
            return Err(Error::invalid(what).cure("see --preserve-fds and LISTEN_FDS"));
        }
        Ok(())
    }

    /// Waits until the command is wanted: for any byte.
    pub fn wait(&self) -> Result<()> {
        let read = loop {
            match recv(self.0.as_raw_fd(), &mut [0], MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                read => break read.what(|| "wait at the gate")?,
            }
        };
        if read == 0 {
            return Err(Error::new(Kind::Denied, "nobody wants the process any more: the gate was closed"));
        }
        Ok(())
    }

    /// Says that it executes, and which it is. Who does not listen has its pid from elsewhere.
    pub fn passed(&self, pid: i32) {
        let _ = send(self.0.as_raw_fd(), format!("{pid}\n").as_bytes(), MsgFlags::MSG_NOSIGNAL);
    }
}
