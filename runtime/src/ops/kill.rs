//! `rt kill`: sends a signal to init, or with KILL to all of a container that shares its PID namespace. It waits for nobody.

use std::os::fd::AsFd;

use super::options::{Global, Kill};
use crate::error::{Context, Error, Kind, Result};
use crate::parent::occupants::Occupants;
use crate::state::{Container, StateDir};
use crate::sys::pidfd;

/// Sends the signal.
pub fn kill(global: &Global, options: &Kill) -> Result<i32> {
    let container = StateDir::new(&global.root).open(&options.id)?;
    match signal(&container, options.signal) {
        Err(error) if error.kind() == Kind::WrongStatus && options.all => Ok(0),
        sent => sent.map(|()| 0),
    }
}

/// WrongStatus if the container isn't running.
fn signal(container: &Container, signal: i32) -> Result<()> {
    // With init, the kernel kills all of its PID namespace. Without one of its own, nobody would kill the others.
    if signal == libc::SIGKILL
        && !container.record().has_own_pid_namespace()
        && let Some(occupants) = occupants(container)?
    {
        return occupants.kill();
    }
    let init = match container.record().init {
        Some(init) => init.open()?,
        None => None,
    };
    let init = init.ok_or_else(|| not_running(container))?;
    match pidfd::send_signal(init.as_fd(), signal) {
        Err(nix::errno::Errno::ESRCH) => Err(not_running(container)),
        sent => sent.what(|| format!("send signal {signal} to container \"{}\"", container.id())),
    }
}

/// The processes of the container, if it has a cgroup of its own and that is still there.
pub fn occupants(container: &Container) -> Result<Option<Occupants>> {
    match &container.record().cgroup {
        Some(cgroup) => Occupants::of(&cgroup.path),
        None => Ok(None),
    }
}

/// The first three words are what containerd and CRI-O look for.
pub fn not_running(container: &Container) -> Error {
    Error::new(Kind::WrongStatus, format!("container not running: \"{}\"", container.id()))
}
