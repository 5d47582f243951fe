//! Runs this program from an image that nobody can write: CVE-2019-5736.
//!
//! A process that joins a container's PID namespace can be looked at from inside, and its executable be opened for writing as
//! soon as it is not running. So `exec`, and `create` into a PID namespace that others live in, run from a read-only mount of the
//! executable, or from a sealed copy in memory where mounts can't be had.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::SigSet;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use super::again;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::mount_options::attr;
use crate::sys::exec::execve_fd;
use crate::sys::mount::{Depth, MountAttr, mount_setattr};

/// Set for the second life, so that an image that can't be sealed ends in an error and not in a circle.
const MARK: &str = "_RT_SEALED";

/// Comes back only in a process whose executable can't be written through it.
pub fn ensure() -> Result<()> {
    let what = || "run from an executable that nobody can write";
    let own =
        rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).what(what)?;
    if is_sealed(&own)? {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(Error::new(Kind::Denied, format!("{}: the copy can be written too", what())));
    }
    let image = read_only_mount().or_else(|_| memory_copy(&own)).what(what)?;
    let (args, env) = again::arguments_and_environment(MARK, "1");
    let errno = execve_fd(image.as_fd(), &args, &env);
    Err(Error::os(errno as i32, what()))
}

/// The same for a process that has blocked signals since its start: its second life starts with `mask`, as the first one did.
pub fn ensure_under(mask: &SigSet) -> Result<()> {
    let what = || "set the signal mask";
    let blocked = SigSet::thread_get_mask().what(what)?;
    mask.thread_set_mask().what(what)?;
    ensure()?;
    blocked.thread_set_mask().what(what)
}

fn is_sealed(own: &OwnedFd) -> Result<bool> {
    let mount = rustix::fs::fstatvfs(own).what(|| "look at /proc/self/exe")?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let wanted = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    Ok(rustix::fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(wanted)))
}

/// KERNEL(5.12): mount_setattr. Costs microseconds, the copy in memory as much as all the rest of `exec`.
fn read_only_mount() -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let image = rustix::mount::open_tree(CWD, "/proc/self/exe", flags)
        .what(|| "clone the mount of the executable")?;
    mount_setattr(&image, c"", Depth::One, MountAttr { set: attr::RDONLY, ..Default::default() })
        .what(|| "make it read-only")?;
    Ok(image)
}

fn memory_copy(own: &OwnedFd) -> Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("rt", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .what(|| "make a memory file")?;
    while rustix::fs::sendfile(&copy, own, None, 1 << 30).what(|| "copy the executable")? > 0 {}
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).what(|| "seal the copy")?;
    Ok(copy)
}
