//! Joining namespaces, and what a new network namespace needs before anybody can use it.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Context, Result};
use crate::plan::Task;
use crate::plan::namespaces::Kind;

/// A way into other namespaces.
#[derive(Debug)]
pub struct Door {
    /// A namespace, or a pidfd.
    pub fd: OwnedFd,
    /// For a pidfd: which namespaces of that process. KERNEL(5.8)
    pub which: CloneFlags,
}

/// Goes through them one after the other; what they are was checked when they were opened.
pub fn join(all: &[Door]) -> Result<()> {
    for door in all {
        setns(&door.fd, door.which).what(|| "join the container's namespaces")?;
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
