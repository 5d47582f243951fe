//! Paths inside the root filesystem, by handle: nothing in there can make us leave it or step aside.
//!
//! CVE-2021-30465, CVE-2024-45310, CVE-2019-19921: a path is resolved once, with the root as its root, and then only its handle
//! is used; missing parts are made one by one below handles.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

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

/// The handle of what is below a mount, whose own links may lead no further than it reaches. The last part is taken as it is.
pub fn open_below(mount: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    if path.as_os_str().is_empty() {
        return rustix::io::fcntl_dupfd_cloexec(mount, 3);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open_with(mount, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// A file of the container for reading, its content bounded by the caller. Nothing but a regular file is opened: to open a device
/// may be to use it. Who exchanges it in between has it opened under the container's device rules, and not read.
pub fn open_file(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    is_regular(&open(root.as_fd(), path, Links::Follow)?)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = open_with(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
    is_regular(&file)?;
    Ok(file)
}

/// EACCES where it is not, as of execve(2).
pub fn is_regular(handle: impl AsFd) -> rustix::io::Result<()> {
    match FileType::from_raw_mode(rustix::fs::fstat(handle)?.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(Errno::ACCESS),
    }
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
    made_unless(open(root.as_fd(), path, links), root, path, shape)
}

/// The same for those who have tried to open it.
pub fn made_unless(
    tried: rustix::io::Result<OwnedFd>,
    root: impl AsFd,
    path: &Path,
    shape: Shape,
) -> Result<OwnedFd> {
    match tried {
        Err(Errno::NOENT) => make(root.as_fd(), path, shape, MAX_LINKS),
        handle => handle.what(|| format!("open {} in the container", path.display())),
    }
}

/// A directory in another one, made if it is not there: no link, and no mount.
pub fn step(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    open_with(dir, Path::new(name), flags, resolve)
}

/// A directory, with those above it, each 0755 and root's.
pub fn make_dirs(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    open_or_make(root, path, Shape::Directory, Links::Follow)
}

/// `links`: how many links to nowhere may still be on the way.
fn make(root: BorrowedFd<'_>, path: &Path, shape: Shape, links: usize) -> Result<OwnedFd> {
    let what = || format!("create {} in the container", path.display());
    let name = path.file_name().ok_or_else(|| Error::invalid(format!("{}: it has no name", what())))?;
    // Links in the part that exists are followed from the root, as a program in the container would.
    let above = path.parent().unwrap_or(Path::new("/"));
    let parent = match open(root, above, Links::Follow) {
        Err(Errno::NOENT) => make(root, above, Shape::Directory, links)?,
        parent => parent.what(what)?,
    };
    let made = match shape {
        // Not opened: a descriptor open for writing would forbid to make the root read-only later.
        Shape::File => {
            rustix::fs::mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
        }
        Shape::Directory => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
    };
    match made {
        // Somebody else was quicker, or it is a link to nowhere: there is a name, but nothing behind it.
        Err(Errno::EXIST) => {
            return match open(root, path, Links::Follow) {
                Err(Errno::NOENT) => behind(root, path, &parent, shape, links).what(what),
                handle => handle.what(what),
            };
        }
        made => made.what(what)?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(&parent, name, flags, Mode::empty()).what(what)?;
    spent(parent);
    Ok(handle)
}

/// Behind a link to nowhere: what it points to is made, in the root. Images have /etc/resolv.conf as such a link.
fn behind(
    root: BorrowedFd<'_>,
    path: &Path,
    parent: &OwnedFd,
    shape: Shape,
    links: usize,
) -> Result<OwnedFd> {
    let left = links.checked_sub(1).ok_or(Errno::LOOP).what(|| "follow its links")?;
    let name = path.file_name().unwrap_or_default();
    let target = rustix::fs::readlinkat(parent, name, Vec::new()).what(|| "read the link")?;
    let above = path.parent().unwrap_or(Path::new("/"));
    let target = plain(&above.join(std::ffi::OsStr::from_bytes(target.as_bytes())));
    match open(root, &target, Links::Follow) {
        Err(Errno::NOENT) => make(root, &target, shape, left),
        handle => handle.what(|| "open what the link points to"),
    }
}

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// `..` taken by its letters: it is only used for what is not there, and whatever comes of it is resolved in the root again.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_for_reading() {
        let dir = std::env::temp_dir().join(format!("rt-target-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("file"), "text").unwrap();
        std::os::unix::fs::symlink("/file", dir.join("link")).unwrap();
        let root = rustix::fs::open(&dir, OFlags::PATH, Mode::empty()).unwrap();
        rustix::fs::mknodat(&root, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        let node = rustix::fs::mknodat(
            &root,
            "zero",
            FileType::CharacterDevice,
            Mode::RUSR,
            rustix::fs::makedev(1, 5),
        );
        for (name, error) in
            [("file", None), ("link", None), ("fifo", Some(Errno::ACCESS)), (".", Some(Errno::ACCESS))]
        {
            assert_eq!(open_file(&root, Path::new(name)).err(), error, "{name}");
        }
        if node.is_ok() {
            assert_eq!(open_file(&root, Path::new("zero")).err(), Some(Errno::ACCESS));
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
