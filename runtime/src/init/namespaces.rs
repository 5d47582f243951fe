//! Joining namespaces, and what a new network namespace needs before anybody can use it.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::plan::Task;
use crate::plan::namespaces::Kind;

/// A way into other namespaces.
#[derive(Debug)]
pub struct Door {
    /// A namespace, or a pidfd.
    pub fd: OwnedFd,
    /// For a pidfd: which namespaces of that process. KERNEL(5.8)
    pub which: CloneFlags,
    /// Of that process: the user namespace in which it has made them, if that has to be ours.
    pub owner: Option<Owner>,
    /// When it is gone through.
    pub when: When,
}

/// In which user namespace a process is.
#[derive(Debug)]
pub struct Owner {
    /// /proc/PID/ns
    names: OwnedFd,
    /// Of this process, which is the container's: it was made without one of its own.
    ours: u64,
}

impl Owner {
    /// Of the process that has this pid.
    pub fn of(pid: i32) -> Result<Self> {
        let name = format!("/proc/{pid}/ns");
        let what = || format!("look at the user namespace of process {pid}");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let names = rustix::fs::open(&name, flags, Mode::empty()).what(what)?;
        let ours = rustix::fs::stat("/proc/self/ns/user").what(what)?.st_ino;
        Ok(Self { names, ours })
    }

    /// An error if it is not in ours. Whoever leaves his user namespace never comes back: if it is ours now, it was before. Root of another
    /// one may have made whatever namespaces he likes, and what is found in there would be found as root of this one.
    pub fn check(&self) -> Result<()> {
        let theirs = rustix::fs::statat(&self.names, "user", AtFlags::empty());
        if theirs.what(|| "look at the user namespace of the container's first process")?.st_ino == self.ours
        {
            return Ok(());
        }
        let what = "the container's first process has gone to a user namespace of its own, and may have made the others";
        Err(Error::new(ErrorKind::Denied, what).cure("only `rt kill` and `rt delete` reach it now"))
    }
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
        door.owner.as_ref().map_or(Ok(()), Owner::check)?;
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
