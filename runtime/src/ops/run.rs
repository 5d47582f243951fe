//! `run`: create and start in one, then stay with the container until it ends, or leave (`--detach`).

use nix::sys::signal::SigSet;

use super::attend;
use super::birth;
use super::console::Terminal;
use super::launch::{self, Caller, Launched, StartedBy};
use super::notify::Listener;
use super::options::{Global, Run};
use super::{poststart, rootless, sealed, streams};
use crate::error::{Context, Result};

/// Gives the container's exit code, or 0 if it leaves before.
pub fn run(global: &Global, options: &Run) -> Result<i32> {
    let what = || format!("run container {:?}", options.id.as_str());
    // ORDER: before signals are blocked: a second life would take that for its caller's wish.
    sealed::ensure().what(what)?;
    streams::protect().what(what)?;
    rootless::ensure(&options.launch).what(what)?;
    let before = if options.detach {
        SigSet::thread_get_mask().what(|| "read the signal mask")?
    } else {
        attend::block_signals()?
    };
    if !(options.detach || options.no_subreaper) {
        crate::sys::process::become_subreaper().what(|| "adopt orphans")?;
    }
    let terminal = if options.detach { Terminal::Handed } else { Terminal::Relayed };
    let caller = Caller { start: StartedBy::Link, terminal, signals: before };
    let launched = launch::launch(global, &options.id, &options.launch, caller).what(what)?;
    let Launched { mut container, mut child, terminal, pace, notify } = launched;
    launch::send_pidfd(&child, options.launch.pidfd_socket.as_deref())?;
    let started = birth::go(&mut child, pace).and_then(|()| poststart::run(&container)).what(what);
    if let Err(error) = started {
        return Err(super::delete::instead(container, error));
    }
    child.keep();
    if options.detach {
        let ready = |notify: Listener| notify.wait_ready(child.pid.as_raw(), Some(&child.pidfd));
        return notify.map_or(Ok(()), ready).map(|()| 0);
    }
    let code = attend::attend(child.pid, &child.pidfd, terminal, notify)?;
    if !options.keep {
        container.reaped();
        super::delete::remove(container)?;
    }
    Ok(code)
}
