//! Where a terminal's master goes: to the socket that the caller named, or to this process, which then relays it.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::error::{Context, Error, Result};
use crate::outfile;

/// The longest that a caller's socket may take to accept what is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is there to hold the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// This process stays with the container.
    Relayed,
    /// This process leaves, so it must go to a socket.
    Handed,
    /// Nothing is made, so nobody is needed.
    Any,
}

/// A terminal needs somebody to hold it, and a console socket needs a terminal. Engines know these words from runc.
pub fn check(terminal: bool, socket: bool, holder: Terminal) -> Result<()> {
    match (terminal, socket, holder) {
        (true, false, Terminal::Handed) => {
            Err(Error::invalid("cannot allocate tty if rt will detach without setting console socket")
                .cure("give --console-socket, or set process.terminal to false"))
        }
        (_, _, Terminal::Any) => Ok(()),
        (false, true, _) | (_, true, Terminal::Relayed) => {
            Err(Error::invalid("cannot use console socket if rt will not detach or allocate tty")
                .cure("leave --console-socket out, or set process.terminal and detach"))
        }
        _ => Ok(()),
    }
}

/// Sends the master to the socket, or gives it back.
pub fn hand_over(master: Option<OwnedFd>, socket: Option<&Path>) -> Result<Option<OwnedFd>> {
    let (Some(fd), Some(path)) = (&master, socket) else { return Ok(master) };
    send_fd(fd, path, b"/dev/ptmx")
        .what(|| format!("send the terminal to the console socket {}", path.display()))?;
    Ok(None)
}

/// Sends a descriptor with a word over a Unix socket.
pub fn send_fd(fd: &OwnedFd, socket: &Path, word: &[u8]) -> Result<()> {
    let (_handle, address) = outfile::socket(socket)?;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .what(|| "make a socket")?;
    // A listener who doesn't accept keeps nobody waiting for ever.
    rustix::net::sockopt::set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE))
        .what(|| "bound the wait")?;
    let address = SocketAddrUnix::new(&address).what(|| "connect")?;
    rustix::net::connect(&stream, &address).what(|| "connect")?;
    let fds = [fd.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(word)],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .what(|| "send")
}
