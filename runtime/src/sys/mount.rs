//! mount_setattr(2), which neither nix nor rustix has. KERNEL(5.12)

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::check;

/// What to change of a mount, or of a tree of mounts.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr<'a> {
    /// `MOUNT_ATTR_*` to raise.
    pub set: u64,
    /// `MOUNT_ATTR_*` to lower.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 for no change.
    pub propagation: u64,
    /// Map ids through this user namespace (with `MOUNT_ATTR_IDMAP` in `set`).
    pub userns: Option<BorrowedFd<'a>>,
}

/// Which mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The one mount.
    One,
    /// It and all below it.
    Tree,
}

/// Changes the mount that `path`, seen from `dir`, is the root of; an empty path means `dir` itself.
pub fn mount_setattr(dir: impl AsFd, path: &CStr, depth: Depth, attr: MountAttr<'_>) -> nix::Result<()> {
    let raw = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: attr.userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let mut flags = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    if depth == Depth::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `path` is a C string and `raw` a mount_attr of the size that is passed; both outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const raw,
            std::mem::size_of_val(&raw),
        )
    })
    .map(drop)
}

/// Makes the working directory, which is the root of a mount, the root of this mount namespace, and lets go of the one before.
pub fn pivot() -> rustix::io::Result<()> {
    rustix::process::pivot_root(c".", c".")?;
    // The old root lies on top of the new one now, and `.` leads to what is on top: it goes with all its mounts. They were made
    // private or slave, so nothing of this reaches the host. Root and working directory are the new root already.
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)
}

/// Whether what a descriptor stands for is on a procfs.
pub fn is_procfs(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(magic(fd)? == PROC)
}

/// Whether it is on a devpts.
pub fn is_devpts(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(magic(fd)? == DEVPTS)
}

/// Whether it stands for a namespace, or for another of the kernel's objects that are kept with them.
pub fn is_nsfs(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(magic(fd)? == NSFS)
}

/// Whether it is on a tmpfs.
pub fn is_tmpfs(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(magic(fd)? == TMPFS)
}

/// Whether it is on a filesystem in which nobody but the kernel makes, renames or removes anything.
pub fn has_the_kernels_names(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok([PROC, SYSFS, SECURITYFS, DEBUGFS, TRACEFS].contains(&magic(fd)?))
}

// KERNEL: include/uapi/linux/magic.h
const PROC: u64 = 0x9fa0;
const DEVPTS: u64 = 0x1cd1;
const NSFS: u64 = 0x6e73_6673;
const TMPFS: u64 = 0x0102_1994;
const SYSFS: u64 = 0x6265_6572;
const SECURITYFS: u64 = 0x7363_6673;
const DEBUGFS: u64 = 0x6462_6720;
const TRACEFS: u64 = 0x7472_6163;

fn magic(fd: impl AsFd) -> rustix::io::Result<u64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64)
}
