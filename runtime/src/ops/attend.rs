//! Staying with a process until it ends, for `run` and `exec` in the foreground: signals, terminal bytes, orphans, exit code.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::notify::Listener;
use super::relay::{self, Relay};
use crate::error::{Context, Result};

/// Blocks all signals and gives the mask as it was before.
///
/// ORDER: before there is a child, so that no signal is lost between its birth and our waiting.
pub fn block_signals() -> Result<SigSet> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).what(|| "block signals")?;
    Ok(before)
}

/// Forwards signals, terminal bytes and the word that it is ready until the process ends; gives its exit code, 128 + n after a signal.
pub fn attend(
    pid: Pid,
    pidfd: &OwnedFd,
    terminal: Option<OwnedFd>,
    mut notify: Option<Listener>,
) -> Result<i32> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .what(|| "open a signal descriptor")?;
    let mut relay = terminal.map(Relay::new).transpose()?;
    loop {
        let ended = reap(pid)?;
        // After the look at the process: its last word may have come right before its end.
        if let Some(notify) = &mut notify {
            if ended.is_some() { notify.pass_on_the_last(None) } else { notify.pass_on(None) }
        }
        if let Some(code) = ended {
            if let Some(relay) = &mut relay {
                relay.drain();
            }
            return Ok(code);
        }
        notify = notify.filter(|notify| !notify.is_done());
        let ready = notify.as_ref().map_or((None, None), Listener::waiting);
        match &mut relay {
            None => relay::wait(signals.as_fd(), ready)?,
            Some(relay) => relay.turn(signals.as_fd(), ready)?,
        }
        while let Some(signal) = signals.read_signal().what(|| "read a signal")? {
            forward(signal.ssi_signo as i32, pidfd, relay.as_mut())?;
        }
    }
}

fn forward(signal: i32, pidfd: &OwnedFd, relay: Option<&mut Relay>) -> Result<()> {
    match (Signal::try_from(signal), relay) {
        (Ok(Signal::SIGCHLD), _) => Ok(()),
        (Ok(Signal::SIGWINCH), Some(relay)) => relay.resize(),
        // Ours, from writing to a terminal or pipe that somebody closed.
        (Ok(Signal::SIGPIPE), _) => Ok(()),
        _ => match crate::sys::pidfd::send_signal(pidfd.as_fd(), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).what(|| format!("forward signal {signal}")),
        },
    }
}

/// Reaps all that have ended, orphans that came to us among them.
fn reap(init: Pid) -> Result<Option<i32>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == init => return Ok(Some(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == init => return Ok(Some(128 + signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).what(|| "wait for the container"),
        }
    }
}
