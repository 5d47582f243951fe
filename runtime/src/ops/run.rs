//! `run`: create and start in one, then stay with the container until it ends, or leave (`--detach`).

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Terminal;
use super::launch::{self, Caller, Launched, StartedBy};
use super::options::{Global, Run};
use super::relay::Relay;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::link::Message;
use crate::state::{Container, Status};

/// Gives the container's exit code, or 0 if it leaves before.
pub fn run(global: &Global, options: &Run) -> Result<i32> {
    let before = SigSet::thread_get_mask().what(|| "read the signal mask")?;
    if !options.detach {
        // ORDER: blocked before there is a child, so that no signal is lost between its birth and our waiting.
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).what(|| "block signals")?;
        if !options.no_subreaper {
            crate::sys::process::become_subreaper().what(|| "adopt orphans")?;
        }
    }
    let terminal = if options.detach { Terminal::Handed } else { Terminal::Relayed };
    let caller = Caller { start: StartedBy::Link, terminal, signals: before };
    let what = || format!("run container {:?}", options.id.as_str());
    let launched = launch::launch(global, &options.id, &options.launch, caller).what(what)?;
    let Launched { container, child, terminal } = launched;
    launch::send_pidfd(&child, options.launch.pidfd_socket.as_deref())?;
    let started = start(&child.link, &container).what(what);
    if let Err(error) = started {
        return Err(undo(container, error));
    }
    let (pid, pidfd) = child.keep();
    if options.detach {
        return Ok(0);
    }
    let code = attend(pid, &pidfd, terminal)?;
    if !options.keep {
        super::delete::remove(container)?;
    }
    Ok(code)
}

/// Start, then either silence (execve closed the link) or the reason why not. Then poststart hooks.
fn start(link: &crate::link::Link, container: &Container) -> Result<()> {
    link.send(&Message::Start)?;
    match link.receive()? {
        None => {}
        Some(Message::Failed(_, error)) => return Err(error),
        Some(_) => return Err(Error::new(Kind::Internal, "init said something unexpected")),
    }
    match container.record().hooks.as_ref().filter(|hooks| !hooks.poststart.is_empty()) {
        None => Ok(()),
        Some(hooks) => {
            hooks::run_all("poststart", &hooks.poststart, &container.record().hook_state(Status::Running))
        }
    }
}

/// Started or not, it is not wanted any more.
fn undo(container: Container, error: Error) -> Error {
    if let Err(second) = super::delete::remove(container) {
        tracing::warn!("delete the container after its start failed: {second}");
    }
    error
}

/// Forwards signals and terminal bytes until the process ends; gives its exit code, 128 + n after a signal.
fn attend(pid: Pid, pidfd: &OwnedFd, terminal: Option<OwnedFd>) -> Result<i32> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .what(|| "open a signal descriptor")?;
    let mut relay = terminal.map(Relay::new).transpose()?;
    loop {
        if let Some(code) = reap(pid)? {
            if let Some(relay) = &mut relay {
                relay.drain();
            }
            return Ok(code);
        }
        match &mut relay {
            None => super::relay::wait(signals.as_fd())?,
            Some(relay) => relay.turn(signals.as_fd())?,
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
