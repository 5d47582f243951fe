//! The socket between parent and init: barriers, not requests, since both hold the same plan.
//!
//! ```text
//!   parent ── Go ────────▶ init      maps are written, the scope is there (only where init needs that)
//!   parent ◀── AtMaps ──── init      its user namespace is there, and has no maps yet (only where init made it itself)
//!   parent ◀── AtHooks ─── init      the root filesystem stands (only where there are hooks to run now)
//!   parent ── HooksDone ─▶ init
//!   parent ◀── Born ────── init      it is a process of its own now, where it was born by one in between (see `spawn.rs`)
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
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials,
    recvmsg, sendmsg, socketpair,
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
    /// Init: its user namespace is made.
    AtMaps,
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
    /// Init, which a process in between has cloned: it is there. Its pid is told by the kernel.
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

    /// Whether the kernel says who has sent a message that says who it is of: [`Message::Born`] needs it.
    ///
    /// KERNEL: not while this side sends: a socket that asks gets an abstract name by it, which all of the network namespace see.
    pub fn ask_who(&self, asks: bool) -> Result<()> {
        nix::sys::socket::setsockopt(&self.0, nix::sys::socket::sockopt::PassCred, &asks)
            .what(|| "ask for the senders of messages")
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
        let (rights, who) = ([ControlMessage::ScmRights(fds)], UnixCredentials::new());
        let who = [ControlMessage::ScmCredentials(&who)];
        let rights = match message {
            Message::Born(_) => &who[..],
            _ if fds.is_empty() => &[],
            _ => &rights,
        };
        let send = |rights: &[ControlMessage<'_>]| {
            sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)
        };
        let sent = match send(rights) {
            // KERNEL: who has no user id yet can't say which; the other side has asked beforehand then.
            Err(Errno::EINVAL) if matches!(message, Message::Born(_)) => send(&[]),
            sent => sent,
        };
        sent.map(drop).what(|| "send to the other side of the link")
    }

    /// Waits for a message; `None`: the other side is gone.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = [0; MOST];
        let mut space = nix::cmsg_space!(RawFd, UnixCredentials);
        let (len, fd, sender) = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(got) => {
                    let (mut fd, mut sender) = (None, None);
                    for message in got.cmsgs().what(|| "read control messages")? {
                        match message {
                            ControlMessageOwned::ScmRights(fds) => fd = fds.first().copied(),
                            ControlMessageOwned::ScmCredentials(who) => sender = Some(who.pid()),
                            _ => {}
                        }
                    }
                    break (got.bytes, fd, sender);
                }
                // The other side is gone with something of ours unread. KERNEL: told once, before what it had said.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno).what(|| "receive from the other side of the link"),
            }
        };
        let fd = fd.map(crate::sys::process::own);
        if len == 0 { Ok(None) } else { Message::decode(&bytes[..len], fd, sender).map(Some) }
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
            Self::AtMaps => vec![b'M'],
            Self::AtHooks => vec![b'A'],
            Self::HooksDone => vec![b'H'],
            Self::Ready(None) => vec![b'R'],
            Self::Ready(Some(_)) => vec![b'T'],
            Self::Start => vec![b'S'],
            Self::Committed => vec![b'C'],
            Self::Born(_) => vec![b'B'],
            Self::Failed(step, error) => {
                let mut bytes = [&[b'F', *step][..], &error.to_bytes()].concat();
                bytes.truncate(MOST);
                bytes
            }
        }
    }

    /// From [`Self::encode`], the descriptor that came with it, and who has sent it, if the kernel said so.
    pub fn decode(bytes: &[u8], fd: Option<OwnedFd>, sender: Option<i32>) -> Result<Self> {
        match (bytes, fd) {
            ([b'G'], _) => Ok(Self::Go),
            ([b'M'], _) => Ok(Self::AtMaps),
            ([b'A'], _) => Ok(Self::AtHooks),
            ([b'H'], _) => Ok(Self::HooksDone),
            ([b'R'], None) => Ok(Self::Ready(None)),
            ([b'T'], Some(fd)) => Ok(Self::Ready(Some(fd))),
            ([b'S'], _) => Ok(Self::Start),
            ([b'C'], _) => Ok(Self::Committed),
            ([b'B'], _) if sender.is_some_and(|pid| pid > 0) => Ok(Self::Born(sender.unwrap_or_default())),
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
    fn the_kernel_says_who_was_born() {
        let (a, b) = Link::pair().unwrap();
        b.send(&Message::Born(0)).unwrap();
        a.ask_who(true).unwrap();
        let us = std::process::id().cast_signed();
        assert!(matches!(a.receive().unwrap(), Some(Message::Born(pid)) if pid == us));
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
            Message::decode(&Message::Failed(Step::Mounts as u8, error).encode(), None, None).unwrap()
        else {
            panic!("not a failure")
        };
        assert_eq!((step_name(step), back.to_string(), back.kind()), ("mounts", text, Kind::Os(libc::EPERM)));
    }

    #[test]
    fn strange_bytes_are_an_error() {
        assert!(Message::decode(b"T", None, None).is_err());
        assert!(Message::decode(b"B", None, None).is_err());
        assert!(Message::decode(b"?", None, None).is_err());
    }
}
