//! The socket between parent and init: barriers, not requests, since both hold the same plan.
//!
//! ```text
//!   parent ── Go ────────▶ init      maps are written, the scope is there (only where init needs that)
//!   parent ◀── AtHooks ─── init      the root filesystem stands (only where there are hooks to run now)
//!   parent ── HooksDone ─▶ init
//!   parent ◀── Ready ───── init      all but execve is done; carries the terminal, if there is one (`exec`: only where somebody waits for it)
//!   parent ── Start ─────▶ init      (only `run` and `exec`; said before Ready where nothing happens between the two)
//!   parent ── Committed ─▶ init      (only `create`: init waits at the start FIFO, and needs this process no more)
//!   parent ◀── Failed ──── init      at any time; then init ends
//! ```
//!
//! A closed link ends init, until Committed. After Start, a closed link tells the parent that execve succeeded.
//! After Committed, Failed goes to `start`, through the FIFO.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

use crate::error::{Context, Error, Kind, Result};
use crate::step::Step;

/// Longest message; a failure's text is cut to fit.
pub const MOST: usize = 4096;

/// What parent and init tell each other.
#[derive(Debug)]
pub enum Message {
    /// Parent: go on.
    Go,
    /// Init: the root filesystem stands.
    AtHooks,
    /// Parent: the hooks ran.
    HooksDone,
    /// Init: waits for start; with the terminal's other end.
    Ready(Option<OwnedFd>),
    /// Parent: execute.
    Start,
    /// Parent: the record is committed; whatever becomes of this process, the container is known.
    Committed,
    /// Init: the step that failed, and why.
    Failed(u8, Error),
    /// The process between parent and init: init's pid.
    Born(i32),
}

/// One end.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Both ends: parent's, init's.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .what(|| "make a socket pair")?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one message.
    pub fn send(&self, message: &Message) -> Result<()> {
        let bytes = message.encode();
        let raw: [RawFd; 1];
        let fds: &[RawFd] = match message {
            Message::Ready(Some(fd)) => {
                raw = [fd.as_raw_fd()];
                &raw
            }
            _ => &[],
        };
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let sent =
            sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], rights, MsgFlags::MSG_NOSIGNAL, None);
        sent.map(drop).what(|| "send to the other side of the link")
    }

    /// Waits for a message; `None`: the other side is gone.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = [0; MOST];
        let mut space = nix::cmsg_space!(RawFd);
        let (len, fd) = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(got) => {
                    let mut fd = None;
                    for message in got.cmsgs().what(|| "read control messages")? {
                        if let ControlMessageOwned::ScmRights(fds) = message {
                            fd = fds.first().copied();
                        }
                    }
                    break (got.bytes, fd);
                }
                // The other side is gone with something of ours unread. KERNEL: told once, before what it had said.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno).what(|| "receive from the other side of the link"),
            }
        };
        let fd = fd.map(crate::sys::process::own);
        if len == 0 { Ok(None) } else { Message::decode(&bytes[..len], fd).map(Some) }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Message {
    /// As it goes over the link.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Go => vec![b'G'],
            Self::AtHooks => vec![b'A'],
            Self::HooksDone => vec![b'H'],
            Self::Ready(None) => vec![b'R'],
            Self::Ready(Some(_)) => vec![b'T'],
            Self::Start => vec![b'S'],
            Self::Committed => vec![b'C'],
            Self::Born(pid) => [&[b'B'][..], &pid.to_le_bytes()].concat(),
            Self::Failed(step, error) => {
                let mut bytes = [&[b'F', *step][..], &error.to_bytes()].concat();
                bytes.truncate(MOST);
                bytes
            }
        }
    }

    /// From [`Self::encode`], and the descriptor that came with it.
    pub fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Result<Self> {
        match (bytes, fd) {
            ([b'G'], _) => Ok(Self::Go),
            ([b'A'], _) => Ok(Self::AtHooks),
            ([b'H'], _) => Ok(Self::HooksDone),
            ([b'R'], None) => Ok(Self::Ready(None)),
            ([b'T'], Some(fd)) => Ok(Self::Ready(Some(fd))),
            ([b'S'], _) => Ok(Self::Start),
            ([b'C'], _) => Ok(Self::Committed),
            ([b'B', pid @ ..], _) if pid.len() == 4 => {
                Ok(Self::Born(i32::from_le_bytes([pid[0], pid[1], pid[2], pid[3]])))
            }
            ([b'F', step, error @ ..], _) => Ok(Self::Failed(*step, Error::from_bytes(error))),
            _ => Err(Error::new(Kind::Internal, format!("unexpected message on the link: {bytes:?}"))),
        }
    }
}

/// The name of the step in a Failed message.
pub fn step_name(step: u8) -> &'static str {
    Step::ALL.get(usize::from(step)).map_or("unknown", |step| step.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_they_were_sent_with_their_descriptor() {
        let (a, b) = Link::pair().unwrap();
        a.send(&Message::Go).unwrap();
        assert!(matches!(b.receive().unwrap(), Some(Message::Go)));
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        b.send(&Message::Ready(Some(file))).unwrap();
        assert!(matches!(a.receive().unwrap(), Some(Message::Ready(Some(_)))));
        drop(b);
        assert!(a.receive().unwrap().is_none());
    }

    #[test]
    fn last_words_are_heard_though_something_was_left_unread() {
        let (a, b) = Link::pair().unwrap();
        a.send(&Message::Start).unwrap();
        b.send(&Message::AtHooks).unwrap();
        drop(b);
        assert!(matches!(a.receive().unwrap(), Some(Message::AtHooks)));
        assert!(a.receive().unwrap().is_none());
    }

    #[test]
    fn a_failure_keeps_its_chain_kind_and_cure() {
        let error = Error::os(libc::EPERM, "mount proc").cure("be root").during("make mounts");
        let text = error.to_string();
        let Message::Failed(step, back) =
            Message::decode(&Message::Failed(Step::Mounts as u8, error).encode(), None).unwrap()
        else {
            panic!("not a failure")
        };
        assert_eq!((step_name(step), back.to_string(), back.kind()), ("mounts", text, Kind::Os(libc::EPERM)));
    }

    #[test]
    fn strange_bytes_are_an_error() {
        assert!(Message::decode(b"T", None).is_err());
        assert!(Message::decode(b"B12", None).is_err());
        assert!(Message::decode(b"?", None).is_err());
    }
}
