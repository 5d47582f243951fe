//! A netlink socket: several requests in one call, the kernel's answers with its own words for what it refuses.
//!
//! It blocks only as long as the kernel works on a request. It belongs to the network namespace that it was opened in, whatever
//! thread uses it later.

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

use super::wire::{self, Message, Received, messages};
use crate::error::{Context, Error, Result};

/// Answers of every family: an error or acknowledgement; the end of a list.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_CAPPED`, `NLM_F_ACK_TLVS`, `NLMSGERR_ATTR_MSG`.
const CAPPED: u16 = 0x100;
const WITH_ATTRIBUTES: u16 = 0x200;
const WORDS: u16 = 1;
/// `NLM_F_DUMP_INTR`: the list changed while it was read.
const INTERRUPTED: u16 = 0x10;

/// An open socket.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
}

/// What the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the requests, from 0.
    pub index: usize,
    /// Why.
    pub errno: i32,
    /// Why, in the kernel's words; may be empty.
    pub words: String,
}

impl Refusal {
    /// As an error of what was being done.
    pub fn during(self, what: impl Into<String>) -> Error {
        if self.words.is_empty() {
            return Error::os(self.errno, what);
        }
        Error::os(self.errno, self.words).during(what)
    }
}

impl Socket {
    /// For links, addresses and routes.
    pub fn route() -> Result<Self> {
        Self::open(NETLINK_ROUTE, "open routing netlink socket")
    }

    /// For nf_tables and connection tracking.
    pub fn netfilter() -> Result<Self> {
        Self::open(NETLINK_NETFILTER, "open netfilter netlink socket")
    }

    fn open(protocol: isize, what: &str) -> Result<Self> {
        let inner = netlink_sys::Socket::new(protocol).what(|| what)?;
        // Answers come within the call that asks; if none is there then, none will come.
        inner.set_non_blocking(true).what(|| what)?;
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_cap_ack(true);
        Ok(Self { inner, sequence: 0 })
    }

    /// Sends requests in one call. All are tried; the first refusal is returned.
    pub fn send(&mut self, requests: Vec<Message>) -> Result<Result<(), Refusal>> {
        let first = self.sequence + 1;
        let count = requests.len();
        let bytes: Vec<u8> =
            requests.into_iter().flat_map(|message| self.number(message, wire::ACK)).collect();
        self.write(&bytes)?;
        let mut answered = 0;
        let mut refused: Option<Refusal> = None;
        while answered < count {
            for answer in messages(&self.read()?) {
                if answer.kind == ERROR && answer.sequence >= first {
                    answered += 1;
                    refused = refused.or_else(|| refusal(&answer, first));
                }
            }
        }
        Ok(refused.map_or(Ok(()), Err))
    }

    /// Sends netfilter requests as one transaction: all or none. Of any size; what can have parts is better sent in parts.
    pub fn commit(&mut self, requests: Vec<Message>) -> Result<Result<(), Refusal>> {
        let Some(last) = requests.len().checked_sub(1) else { return Ok(Ok(())) };
        let mut bytes = self.number(batch_edge(BATCH_BEGIN), 0);
        let first = self.sequence + 1;
        for (index, message) in requests.into_iter().enumerate() {
            let flags = if index == last { wire::ACK } else { 0 };
            let message = self.number(message, flags);
            bytes.extend_from_slice(&message);
        }
        let closing = self.sequence;
        bytes.extend(self.number(batch_edge(BATCH_END), 0));
        self.make_room(bytes.len())?;
        self.write(&bytes)?;
        let mut refused: Option<Refusal> = None;
        loop {
            let bytes = match (self.read(), &refused) {
                // A batch refused as a whole has no answer to its last request.
                (Err(error), Some(refusal)) if error.errno() == Some(libc::EAGAIN) => {
                    return Ok(Err(refusal.clone()));
                }
                (read, _) => read?,
            };
            // One that is left of an earlier transaction has a smaller number.
            let of_this = |answer: &Received<'_>| answer.kind == ERROR && answer.sequence + 1 >= first;
            for answer in messages(&bytes).filter(of_this) {
                refused = refused.or_else(|| refusal(&answer, first));
                // Answers come in the order of requests; one for the batch as a whole stands before them.
                if answer.sequence == closing {
                    return Ok(refused.map_or(Ok(()), Err));
                }
            }
        }
    }

    /// Sends a question and gives each answer to `each`: type and payload. A list that changed meanwhile is asked for again,
    /// so `each` may see an entry twice.
    pub fn ask(
        &mut self,
        question: &Message,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<Result<(), Refusal>> {
        for _ in 0..8 {
            let bytes = self.number(question.clone(), 0);
            let first = self.sequence;
            self.write(&bytes)?;
            match self.answers(first, &mut each)? {
                Answers::Interrupted => {}
                Answers::Complete => return Ok(Ok(())),
                Answers::Refused(refusal) => return Ok(Err(refusal)),
            }
        }
        Err(Error::new(crate::error::Kind::Unavailable, "read a list from the kernel that keeps changing"))
    }

    fn answers(&mut self, sequence: u32, each: &mut impl FnMut(u16, &[u8])) -> Result<Answers> {
        let mut interrupted = false;
        loop {
            for answer in messages(&self.read()?).filter(|answer| answer.sequence == sequence) {
                interrupted |= answer.flags & INTERRUPTED != 0;
                match answer.kind {
                    ERROR => {
                        return Ok(refusal(&answer, sequence).map_or(Answers::Complete, Answers::Refused));
                    }
                    DONE if interrupted => return Ok(Answers::Interrupted),
                    DONE => return Ok(Answers::Complete),
                    kind => each(kind, answer.payload),
                }
                if answer.flags & MULTI == 0 {
                    return Ok(Answers::Complete);
                }
            }
        }
    }

    fn number(&mut self, message: Message, flags: u16) -> Vec<u8> {
        self.sequence += 1;
        message.finish(self.sequence, flags)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        self.inner
            .send_to(bytes, &netlink_sys::SocketAddr::new(0, 0), 0)
            .map(drop)
            .what(|| "send a netlink request")
    }

    /// KERNEL: a transaction is one datagram, and one that is larger than the socket's buffer is refused (EMSGSIZE).
    fn make_room(&self, bytes: usize) -> Result<()> {
        const ALWAYS: usize = 64 << 10;
        if bytes <= ALWAYS {
            return Ok(());
        }
        let size = bytes + ALWAYS;
        setsockopt(&self.inner, sockopt::SndBufForce, &size)
            .or_else(|_| setsockopt(&self.inner, sockopt::SndBuf, &size))
            .what(|| format!("make room for a netlink request of {bytes} bytes"))
    }

    fn read(&self) -> Result<Vec<u8>> {
        let (bytes, _) = self.inner.recv_from_full().what(|| "read the kernel's netlink answer")?;
        Ok(bytes)
    }
}

enum Answers {
    Complete,
    Interrupted,
    Refused(Refusal),
}

/// `NLM_F_MULTI`
const MULTI: u16 = 2;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

fn batch_edge(kind: u16) -> Message {
    // AF_UNSPEC, version 0, the subsystem nf_tables in network order.
    Message::new(kind, 0, &[0, 0, 0, 10])
}

/// What an error message refuses, if it does.
fn refusal(answer: &Received<'_>, first: u32) -> Option<Refusal> {
    let errno = (wire::u32_at(answer.payload, 0)? as i32).checked_neg()?;
    if errno == 0 {
        return None;
    }
    let echoed = wire::u32_at(answer.payload, 4)? as usize;
    let skip = 4 + if answer.flags & CAPPED == 0 { echoed.max(wire::HEADER) } else { wire::HEADER };
    let rest = answer.payload.get(skip..).filter(|_| answer.flags & WITH_ATTRIBUTES != 0).unwrap_or_default();
    let words = wire::attribute(rest, WORDS).map(wire::text).unwrap_or_default();
    Some(Refusal { index: answer.sequence.saturating_sub(first) as usize, errno, words })
}
