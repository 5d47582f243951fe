//! The wait between Ready and `start`: for the FIFO, for signals, and for `create` as long as it is not done.
//!
//! A created container's process takes signals as any process does that has no handlers. PID 1 of a namespace would be spared all
//! but SIGKILL by the kernel, so they are blocked, which makes them pending there too, and read from a descriptor.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use super::expect;
use crate::error::{Context, Result};
use crate::link::{Link, Message};

/// From here on no signal is lost.
///
/// ORDER: before Ready, since whoever knows that the container is there may signal it.
pub fn hold_signals() -> Result<()> {
    SigSet::all().thread_set_mask().what(|| "block signals")
}

/// Comes back once `start` has written to the FIFO. Ends this process at a signal, and if the link closes before it was said that the
/// record is committed: nobody would know of this container.
pub fn at_fifo(fifo: &OwnedFd, link: &Link) -> Result<()> {
    let what = || "wait at the start FIFO";
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .what(|| "open a signal descriptor")?;
    let mut committed = false;
    loop {
        let mut ready = [fifo.as_fd(), signals.as_fd(), link.as_fd()]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let watched = if committed { 2 } else { 3 };
        rustix::io::retry_on_intr(|| poll(&mut ready[..watched], None)).what(what)?;
        let [started, signalled, said] = ready.map(|fd| !fd.revents().is_empty());
        if signalled {
            while let Some(signal) = signals.read_signal().what(|| "read a signal")? {
                take(signal.ssi_signo.cast_signed());
            }
        }
        if started {
            return Ok(());
        }
        if said {
            expect(link, |message| matches!(message, Message::Committed))?;
            committed = true;
        }
    }
}

/// Takes out what `start` has written: if it finds that again, the program was not executed.
///
/// ORDER: as late as may be, but before the system call filter.
pub fn take_word(fifo: &OwnedFd) -> Result<()> {
    rustix::io::read(fifo, &mut [0]).what(|| "read from the start FIFO").map(drop)
}

/// Ends this process, unless it is a signal that by default ends none. Stopping is left to SIGSTOP: PID 1 can't stop itself.
fn take(number: i32) {
    let signal = Signal::try_from(number).ok();
    let harmless = matches!(
        signal,
        Some(
            Signal::SIGCHLD
                | Signal::SIGCONT
                | Signal::SIGURG
                | Signal::SIGWINCH
                | Signal::SIGTSTP
                | Signal::SIGTTIN
                | Signal::SIGTTOU
        )
    );
    if harmless {
        return;
    }
    // The real thing where the kernel lets it be, else what a shell would make of it.
    if let Some(signal) = signal
        && SigSet::empty().thread_set_mask().is_ok()
    {
        let _ = raise(signal);
    }
    crate::sys::process::exit_now(128 + number);
}
