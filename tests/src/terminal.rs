//! Terminals for tests: a pseudo terminal pair, and the receiver of a runtime's `--console-socket`.
//!
//! It interprets no escape sequences.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A pseudo terminal of the size given: (our end, the program's end).
pub fn pair(rows: u16, columns: u16) -> (Terminal, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("open a pseudo terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("unlock the terminal");
    let name = ptsname(&ours, Vec::new()).expect("the terminal's name");
    let name = name.to_str().expect("a plain name");
    // 0o400 is O_NOCTTY: the test process must not get a controlling terminal by this.
    let theirs =
        File::options().read(true).write(true).custom_flags(0o400).open(name).expect("open its other end");
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("set the terminal's size");
    (Terminal(File::from(ours)), theirs)
}

/// Our end of a terminal.
pub struct Terminal(File);

impl Terminal {
    /// Types something.
    pub fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("write to the terminal");
    }

    /// To be read and written on a thread of its own.
    pub fn into_file(self) -> File {
        self.0
    }

    /// Reads until the text has come, or the other side is gone.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let end = std::time::Instant::now() + crate::DEADLINE;
        while !seen.contains(text) {
            let mut ready = [nix::poll::PollFd::new(self.0.as_fd(), nix::poll::PollFlags::POLLIN)];
            let _ = nix::poll::poll(&mut ready, nix::poll::PollTimeout::from(100u8));
            let any = ready[0].revents().is_some_and(|r| !r.is_empty());
            assert!(std::time::Instant::now() < end, "the terminal never said {text:?}, but {seen:?}");
            let mut bytes = [0; 4096];
            match if any { self.0.read(&mut bytes) } else { continue } {
                Ok(0) | Err(_) => break,
                Ok(got) => seen.push_str(&String::from_utf8_lossy(&bytes[..got])),
            }
        }
        seen
    }
}

/// Where a runtime sends the terminal it made.
pub struct ConsoleSocket(UnixListener);

impl ConsoleSocket {
    /// Listens at the path.
    pub fn bind(path: &Path) -> Self {
        Self(UnixListener::bind(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    /// The terminal that was sent.
    #[track_caller]
    pub fn receive(&self) -> Terminal {
        self.0.set_nonblocking(true).expect("a socket of ours");
        let (peer, _) = crate::until("the runtime connects to the console socket", || self.0.accept().ok());
        peer.set_nonblocking(false).expect("a socket of ours");
        let mut bytes = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&peer, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("receive the terminal");
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Terminal(File::from(fd.expect("a descriptor in the message")))
    }
}
