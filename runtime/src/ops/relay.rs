//! Between the user's terminal and the container's, for `run` and `exec` in the foreground: bytes both ways, size, raw mode.
//!
//! Nothing is buffered without a bound: who does not read is not read for.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Context, Result};

/// A terminal between two others.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    /// What the user's terminal was set to before, if standard input is one.
    before: Option<Termios>,
    input: Flow,
    output: Flow,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    buffer: Vec<u8>,
    sent: usize,
    ended: bool,
}

const CHUNK: usize = 16 << 10;

/// KERNEL: PIPE_BUF: a pipe that can be written to takes as much, though it be one that waits. A terminal gives no more either.
const AT_ONCE: usize = 4096;

/// More than a terminal keeps. KERNEL: TTYB_DEFAULT_MEM_LIMIT: 640 KiB
const MOST_LEFT: usize = 1 << 20;

/// For how long a container's last words are offered to somebody who does not read them.
const PATIENCE: Duration = Duration::from_secs(10);

impl Flow {
    fn new() -> Self {
        Self { buffer: Vec::with_capacity(CHUNK), sent: 0, ended: false }
    }

    fn is_empty(&self) -> bool {
        self.sent == self.buffer.len()
    }

    /// Takes what is there, if the last chunk has been passed on.
    fn fill(&mut self, from: BorrowedFd<'_>) -> Result<()> {
        self.buffer.resize(CHUNK, 0);
        self.sent = 0;
        let read = rustix::io::read(from, &mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            // EIO: the last holder of the terminal's other end is gone.
            Ok(0) | Err(Errno::IO) => self.ended = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno).what(|| "read from a terminal"),
        }
        Ok(())
    }

    /// To what can be written to: no more than that makes nobody wait.
    fn pass(&mut self, to: BorrowedFd<'_>) {
        let end = self.buffer.len().min(self.sent + AT_ONCE);
        match rustix::io::write(to, &self.buffer[self.sent..end]) {
            Ok(written) => self.sent += written,
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads any more: the container goes on, its output goes nowhere.
            Err(_) => self.sent = self.buffer.len(),
        }
    }
}

impl Relay {
    /// Puts the user's terminal in raw mode until the relay is dropped, and gives the container's the same size.
    pub fn new(master: OwnedFd) -> Result<Self> {
        // Who doesn't read what is typed makes nobody wait: it is written when there is room, and signals are heard meanwhile.
        let flags = rustix::fs::fcntl_getfl(&master).what(|| "look at a terminal")?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).what(|| "set a terminal to not wait")?;
        let stdin = std::io::stdin();
        let before = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&stdin, OptionalActions::Now, &raw).what(|| "set the terminal to raw mode")?;
        }
        let relay = Self { master, before, input: Flow::new(), output: Flow::new() };
        relay.resize()?;
        Ok(relay)
    }

    /// Gives the container's terminal the size of the user's.
    pub fn resize(&self) -> Result<()> {
        match tcgetwinsize(std::io::stdin()) {
            Ok(size) => tcsetwinsize(&self.master, size).what(|| "set the terminal's size"),
            Err(_) => Ok(()), // Standard input is no terminal.
        }
    }

    /// Waits for bytes, a signal or `other`, at most for that long, and passes on what can be passed on.
    pub fn turn(&mut self, signals: BorrowedFd<'_>, (other, pause): Other<'_>) -> Result<()> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let want = |yes: bool, flag: PollFlags| if yes { flag } else { PollFlags::empty() };
        let master_events = want(self.output.is_empty() && !self.output.ended, PollFlags::IN)
            | want(!self.input.is_empty(), PollFlags::OUT);
        let read_input = self.input.is_empty() && !self.input.ended;
        let mut fds = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        let mut add = |fd, events: PollFlags| {
            if events.is_empty() {
                return None;
            }
            fds.push(PollFd::from_borrowed_fd(fd, events));
            Some(fds.len() - 1)
        };
        let master = add(self.master.as_fd(), master_events);
        let input = add(stdin.as_fd(), want(read_input, PollFlags::IN));
        let output = add(stdout.as_fd(), want(!self.output.is_empty(), PollFlags::OUT));
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        rustix::io::retry_on_intr(|| poll(&mut fds, pause.as_ref())).what(|| "wait for the terminal")?;
        let ready = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| fds[at].revents());
        let (master, input, output) = (ready(master), ready(input), ready(output));
        if !input.is_empty() {
            self.input.fill(stdin.as_fd())?;
        }
        if master.intersects(PollFlags::OUT) {
            self.input.pass(self.master.as_fd());
        }
        if master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && self.output.is_empty() {
            self.output.fill(self.master.as_fd())?;
        }
        if !output.is_empty() {
            self.output.pass(stdout.as_fd());
        }
        Ok(())
    }

    /// Passes on what the container wrote before it ended, and not all that others write after that, to whoever still reads.
    pub fn drain(&mut self) {
        let stdout = std::io::stdout();
        let end = Instant::now() + PATIENCE;
        let ready = |fd: BorrowedFd<'_>, events, wait: Duration| {
            let wait = Timespec::try_from(wait).ok();
            poll(&mut [PollFd::from_borrowed_fd(fd, events)], wait.as_ref()).is_ok_and(|ready| ready > 0)
        };
        for _ in 0..MOST_LEFT / CHUNK {
            while !self.output.is_empty() {
                if !ready(stdout.as_fd(), PollFlags::OUT, end.saturating_duration_since(Instant::now())) {
                    return;
                }
                self.output.pass(stdout.as_fd());
            }
            let more = !self.output.ended && ready(self.master.as_fd(), PollFlags::IN, Duration::ZERO);
            if !more || self.output.fill(self.master.as_fd()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// What else is waited for, and for how long at most.
type Other<'a> = (Option<BorrowedFd<'a>>, Option<Duration>);

/// Waits for a signal or `other` only, at most for that long.
pub fn wait(signals: BorrowedFd<'_>, (other, pause): Other<'_>) -> Result<()> {
    let mut fds = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
    fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
    rustix::io::retry_on_intr(|| poll(&mut fds, pause.as_ref())).what(|| "wait for a signal").map(drop)
}
