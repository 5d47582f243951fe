//! Paths inside the root filesystem, by handle: nothing in there can make us leave it or step aside.
//!
//! CVE-2021-30465, CVE-2024-45310, CVE-2019-19921: a path is resolved once, with the root as its root, and then only its handle
//! is used; missing parts are made one by one below handles.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Whether symbolic links on the way are followed (inside the root).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are.
    Follow,
    /// The last part of the path is taken as it is, even if it is a link.
    NotLast,
    /// A link anywhere is an error (ELOOP).
    Refuse,
}

/// Lets go of a descriptor that init is done with. A close costs a system call each, execve closes all of them in one: only where
/// there are so many that numbers run short are they closed here.
pub fn spent(fd: OwnedFd) {
    const PLENTY: i32 = 512;
    if fd.as_raw_fd() < PLENTY {
        let _ = fd.into_raw_fd();
    }
}

/// The handle of this process's root.
pub fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).what(|| "open the container's root")
}

/// The handle of a path that exists.
pub fn open(root: impl AsFd, path: &Path, links: Links) -> rustix::io::Result<OwnedFd> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match links {
        Links::Follow => {}
        Links::NotLast => flags |= OFlags::NOFOLLOW,
        Links::Refuse => resolve |= ResolveFlags::NO_SYMLINKS,
    }
    open_with(root, path, flags, resolve)
}

/// A file of the container for reading, its content bounded by the caller.
pub fn open_file(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    open_with(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

fn open_with(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    // KERNEL: openat2 gives EAGAIN when a rename elsewhere might have moved the walk out of the root; asking again is right.
    let path = if path == Path::new("/") { Path::new(".") } else { path };
    for _ in 0..128 {
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The handle of a path, which is made if it is not there.
pub fn open_or_make(root: impl AsFd, path: &Path, shape: Shape, links: Links) -> Result<OwnedFd> {
    match open(root.as_fd(), path, links) {
        Err(Errno::NOENT) => make(root, path, shape),
        handle => handle.what(|| format!("open {} in the container", path.display())),
    }
}

/// A directory, with those above it, each 0755 and root's.
pub fn make_dirs(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open_or_make(root, path, Shape::Directory, Links::Follow)
}

fn make(root: impl AsFd, path: &Path, shape: Shape) -> Result<OwnedFd> {
    let what = || format!("create {} in the container", path.display());
    let name = path.file_name().ok_or_else(|| Error::invalid(format!("{}: it has no name", what())))?;
    // Links in the part that exists are followed from the root, as a program in the container would.
    let above = path.parent().unwrap_or(Path::new("/"));
    let parent = match open(root.as_fd(), above, Links::Follow) {
        Err(Errno::NOENT) => make(root.as_fd(), above, Shape::Directory)?,
        parent => parent.what(what)?,
    };
    let made = match shape {
        Shape::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(spent)
        }
        Shape::Directory => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
    };
    match made {
        // Somebody else was quicker, or it is a link to nowhere: there is a name, but nothing behind it.
        Err(Errno::EXIST) => {
            return open(root, path, Links::Follow).map_err(|_| {
                Error::new(Kind::InvalidConfig, format!("{}: it is a dangling symbolic link", what()))
            });
        }
        made => made.what(what)?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(&parent, name, flags, Mode::empty()).what(what)?;
    spent(parent);
    Ok(handle)
}
