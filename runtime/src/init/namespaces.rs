//! Joining namespaces, and what a new network namespace needs before anybody can use it.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Context, Result};
use crate::plan::Task;
use crate::plan::namespaces::Kind;
use crate::state::Origin;

/// A way into other namespaces.
#[derive(Debug)]
pub struct Door {
    /// A namespace, or a pidfd.
    pub fd: OwnedFd,
    /// For a pidfd: which namespaces of that process. KERNEL(5.8)
    pub which: CloneFlags,
    /// Of that process: where it has to be once they are joined.
    pub origin: Option<Origin>,
    /// When it is gone through.
    pub when: When,
}

/// R2: a hook that runs with the host's root is not born into a PID namespace that others live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At step `join`.
    First,
    /// After the last program with the host's root has ended: see [`crate::step::Step::ContainerHooks`].
    AfterHooks,
}

/// Goes through those of this time one after the other; what they are was checked when they were opened.
pub fn join(all: &[Door], when: When) -> Result<()> {
    for door in all.iter().filter(|door| door.when == when) {
        setns(&door.fd, door.which).what(|| "join the container's namespaces")?;
        // ORDER: once it is joined.
        door.origin.as_ref().map_or(Ok(()), Origin::check)?;
    }
    Ok(())
}

/// Makes those that could not be made at birth.
pub fn late(task: &Task) -> Result<()> {
    for kind in &task.namespaces.late {
        let what = || format!("make a {} namespace", kind.name());
        nix::sched::unshare(CloneFlags::from_bits_retain(kind.flag() as libc::c_int)).what(what)?;
    }
    Ok(())
}

/// A new network namespace has a loopback device that is down.
pub fn loopback_up(task: &Task) -> Result<()> {
    if !task.namespaces.makes(Kind::Network) {
        return Ok(());
    }
    let what = || "set the loopback device up";
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .what(what)?;
    crate::sys::net::set_up(&socket, c"lo").what(what)
}
