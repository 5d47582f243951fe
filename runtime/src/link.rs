//! The socket between parent and init: barriers, not requests, since both hold the same plan.
//!
//! ```text
//!   parent ── Go ────────▶ init      maps are written, the scope is there (only where init needs that)
//!   parent ◀── AtMaps ──── init      its user namespace is there, and has no maps yet (only where init made it itself)
//!   parent ── Limited ───▶ init      limits and device rules are set: nothing that the container chose is opened before (only a container's first process)
//!   parent ◀── AtHooks ─── init      the root filesystem stands (only where there are hooks to run now; twice, where the parent runs those of the container)
//!   parent ── HooksDone ─▶ init
//!   parent ◀── Terminal ── init      carries the terminal (only where it is then born where others live)
//!   parent ── Go ────────▶ init
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
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials,
    recvmsg, sendmsg, socketpair,
};

use rustix::event::{PollFd, PollFlags, poll};

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
    /// Parent: limits and device rules are in force.
    Limited,
    /// Init: the root filesystem stands, or the hooks of the runtime have run.
    AtHooks,
    /// Parent: the hooks ran. From a process that was sent to run some ([`crate::parent::neighbour_hooks`]), too.
    HooksDone,
    /// Init: waits for start; with the terminal's other end.
    Ready(Option<OwnedFd>),
    /// Init: the terminal's other end, before it is born where others live.
    Terminal(OwnedFd),
    /// Parent: execute.
    Start,
    /// Parent: the record is committed; whatever becomes of this process, the container is known.
    Committed,
    /// Init: the step that failed, and why.
    Failed(u8, Error),
    /// Init, which a process in between has cloned: it is there. Its pid is told by the kernel.
    Born(i32),
    /// From a process that was sent to open a filesystem ([`crate::parent::procfs`]): what it opened, and its pid, told by the kernel.
    Opened(OwnedFd, i32),
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

    /// From here on nobody can send this side a descriptor. KERNEL(6.16): before, whoever has the other end can send one whose last close,
    /// which is ours then, takes as long as he has said (SO_LINGER).
    pub fn refuse_descriptors(&self) -> Result<()> {
        crate::sys::net::refuse_descriptors(&self.0).what(|| "refuse descriptors on the link")
    }

    /// Sends one message.
    pub fn send(&self, message: &Message) -> Result<()> {
        let bytes = message.encode();
        let raw: [RawFd; 1];
        let fds: &[RawFd] = match message {
            Message::Ready(Some(fd)) | Message::Terminal(fd) | Message::Opened(fd, _) => {
                raw = [fd.as_raw_fd()];
                &raw
            }
            _ => &[],
        };
        let rights = [ControlMessage::ScmRights(fds)];
        // Three system calls, and nobody asks for it elsewhere.
        let who = matches!(message, Message::Born(_)).then(UnixCredentials::new);
        let who = who.as_ref().map(|who| [ControlMessage::ScmCredentials(who)]);
        let rights = match &who {
            Some(who) => &who[..],
            None if fds.is_empty() => &[],
            None => &rights,
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

    /// Waits for a message or the other side's end, at most this long; whether there is one.
    pub fn has_word(&self, timeout: Duration) -> Result<bool> {
        let what = || "wait for the other side of the link";
        let timeout = rustix::event::Timespec::try_from(timeout).ok();
        let mut said = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut said, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            ready => Ok(ready.what(what)? > 0),
        }
    }

    /// Waits for a message; `None`: the other side is gone.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = [0; MOST];
        // KERNEL: SCM_MAX_FD. With less room, what came would be open here and nobody's.
        let mut space = nix::cmsg_space!([RawFd; 253], UnixCredentials);
        let (len, fds, sender) = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(got) => {
                    let (mut fds, mut sender) = (Vec::new(), None);
                    for message in got.cmsgs().what(|| "read control messages")? {
                        match message {
                            // All of them, so that what nobody asked for is closed.
                            ControlMessageOwned::ScmRights(came) => {
                                fds.extend(came.into_iter().map(crate::sys::process::own));
                            }
                            ControlMessageOwned::ScmCredentials(who) => sender = Some(who.pid()),
                            _ => {}
                        }
                    }
                    break (got.bytes, fds, sender);
                }
                // The other side is gone with something of ours unread. KERNEL: told once, before what it had said.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno).what(|| "receive from the other side of the link"),
            }
        };
        if len == 0 { Ok(None) } else { Message::decode(&bytes[..len], fds, sender).map(Some) }
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
            Self::Limited => vec![b'L'],
            Self::AtHooks => vec![b'A'],
            Self::HooksDone => vec![b'H'],
            Self::Ready(None) => vec![b'R'],
            Self::Ready(Some(_)) => vec![b'T'],
            Self::Terminal(_) => vec![b'P'],
            Self::Start => vec![b'S'],
            Self::Committed => vec![b'C'],
            Self::Born(_) => vec![b'B'],
            Self::Opened(..) => vec![b'O'],
            Self::Failed(step, error) => {
                let mut bytes = [&[b'F', *step][..], &error.to_bytes()].concat();
                bytes.truncate(MOST);
                bytes
            }
        }
    }

    /// From [`Self::encode`], the descriptors that came with it, and who has sent it, if the kernel said so. A descriptor where none
    /// belongs is an error: the other side may be traced by somebody who says what he likes.
    pub fn decode(bytes: &[u8], mut fds: Vec<OwnedFd>, sender: Option<i32>) -> Result<Self> {
        let fd = fds.pop();
        match (bytes, fd) {
            ([b'T'], Some(fd)) if fds.is_empty() => Ok(Self::Ready(Some(fd))),
            ([b'P'], Some(fd)) if fds.is_empty() => Ok(Self::Terminal(fd)),
            ([b'O'], Some(fd)) if fds.is_empty() && sender.is_some_and(|pid| pid > 0) => {
                Ok(Self::Opened(fd, sender.unwrap_or_default()))
            }
            (_, Some(_)) => {
                Err(Error::new(Kind::Internal, "the other side of the link sent a descriptor unasked"))
            }
            ([b'G'], None) => Ok(Self::Go),
            ([b'M'], None) => Ok(Self::AtMaps),
            ([b'L'], None) => Ok(Self::Limited),
            ([b'A'], None) => Ok(Self::AtHooks),
            ([b'H'], None) => Ok(Self::HooksDone),
            ([b'R'], None) => Ok(Self::Ready(None)),
            ([b'S'], None) => Ok(Self::Start),
            ([b'C'], None) => Ok(Self::Committed),
            ([b'B'], None) if sender.is_some_and(|pid| pid > 0) => Ok(Self::Born(sender.unwrap_or_default())),
            ([b'F', step, error @ ..], None) => Ok(Self::Failed(*step, Error::from_bytes(error))),
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
            Message::decode(&Message::Failed(Step::Mounts as u8, error).encode(), Vec::new(), None).unwrap()
        else {
            panic!("not a failure")
        };
        assert_eq!((step_name(step), back.to_string(), back.kind()), ("mounts", text, Kind::Os(libc::EPERM)));
    }

    #[test]
    fn descriptors_can_be_refused() {
        let (a, b) = Link::pair().unwrap();
        a.refuse_descriptors().unwrap();
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let sent = b.send(&Message::Ready(Some(file)));
        if crate::sys::net::can_refuse_descriptors(&a.0) {
            assert_eq!(sent.unwrap_err().errno(), Some(libc::EPERM));
        } else {
            println!("SKIP: this kernel has no SO_PASSRIGHTS (Linux 6.16)");
        }
    }

    #[test]
    fn strange_bytes_are_an_error() {
        assert!(Message::decode(b"T", Vec::new(), None).is_err());
        assert!(Message::decode(b"B", Vec::new(), None).is_err());
        assert!(Message::decode(b"?", Vec::new(), None).is_err());
    }

    #[test]
    fn descriptors_that_nobody_asked_for_are_closed_and_an_error() {
        let (a, b) = Link::pair().unwrap();
        let send = |word: &[u8], count: usize| {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            let fds = vec![writer.as_raw_fd(); count];
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(b.0.as_raw_fd(), &[IoSlice::new(word)], &rights, MsgFlags::empty(), None).unwrap();
            reader
        };
        for (word, count) in [(b"R", 1), (b"A", 1), (b"B", 1), (b"T", 2), (b"T", 5), (b"T", 20), (b"R", 253)]
        {
            let reader = send(word, count);
            assert!(a.receive().is_err(), "{word:?} with {count}");
            // The last copy of the other end is gone.
            assert_eq!(rustix::io::read(&reader, &mut [0]), Ok(0), "{word:?} with {count}");
        }
    }

    #[test]
    fn a_failure_brings_no_control_characters() {
        let error = Error::new(Kind::Internal, "a\x1b]0;b\u{9b}c\nd").cure("e\x07");
        let bytes = Message::Failed(0, error).encode();
        let Message::Failed(_, back) = Message::decode(&bytes, Vec::new(), None).unwrap() else {
            panic!("not a failure")
        };
        let text = back.to_string();
        assert!(!text.contains(char::is_control), "{text:?}");
        assert!(text.contains("a\\u{1b}]0;b\\u{9b}c\\nd"), "{text}");
    }
}
