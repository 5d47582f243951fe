//! Joining namespaces, and what a new network namespace needs before anybody can use it.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Context, Result};
use crate::plan::Plan;
use crate::plan::namespaces::Kind;

/// Joins them one after the other; their types were checked when they were opened.
pub fn join(all: &[OwnedFd]) -> Result<()> {
    for namespace in all {
        setns(namespace, CloneFlags::empty()).what(|| "join a namespace")?;
    }
    Ok(())
}

/// A new network namespace has a loopback device that is down.
pub fn loopback_up(plan: &Plan) -> Result<()> {
    if !plan.namespaces.makes(Kind::Network) {
        return Ok(());
    }
    let what = || "set the loopback device up";
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .what(what)?;
    crate::sys::net::set_up(&socket, c"lo").what(what)
}
