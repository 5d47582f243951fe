//! What is made of one entry: files and nodes, and their owner, mode, extended attributes and times. It knows no paths of a layer.

use super::archive::{Entry, Kind};
use crate::error::{Context, Result};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A new file. Without the bits that a change of owner would clear.
pub fn create(parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(entry.mode & 0o777))
}

/// A device or pipe.
pub fn node(parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    let (kind, device) = match entry.kind {
        Kind::Char => (FileType::CharacterDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
        Kind::Block => (FileType::BlockDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
        _ => (FileType::Fifo, 0),
    };
    rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
}

/// Owner, mode, extended attributes of an open file or directory.
// ORDER: chown clears setuid bits and capabilities, so it comes first.
pub fn attributes(file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    // Most are as they should be from their creation on, and to ask costs less than to set: that would be a change for the journal.
    let now = rustix::fs::fstat(file).what(|| "look at what was made")?;
    let owned = (now.st_uid, now.st_gid) == (entry.uid, entry.gid);
    if !owned {
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .what(|| "set owner")?;
    }
    if !owned || now.st_mode & 0o7777 != entry.mode & 0o7777 {
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).what(|| "set mode")?;
    }
    for (name, value) in wanted_xattrs(entry) {
        let set = rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty());
        xattr_set(set, name)?;
    }
    Ok(())
}

/// The same of what can't be opened: symlinks, devices, pipes, and links to any of them. The directory is ours alone, so its names hold.
pub fn named_attributes(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).what(|| "set owner")?;
    if entry.kind != Kind::Symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .what(|| "set mode")?;
    }
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend(name);
    for (name, value) in wanted_xattrs(entry) {
        let set = rustix::fs::lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty());
        xattr_set(set, name)?;
    }
    rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).what(|| "set times")
}

/// Without those that overlayfs would take for its own marks, and without labels, which mounts decide.
fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&Vec<u8>, &[u8])> {
    let foreign = |name: &[u8]| {
        !name.starts_with(b"trusted.overlay.")
            && !name.starts_with(b"user.overlay.")
            && name != b"security.selinux"
    };
    entry.xattrs.iter().filter(move |(name, _)| foreign(name)).map(|(name, value)| (name, value.as_slice()))
}

/// A capability that can't be set is an error; what this filesystem or kind of file can't have at all is not missed.
fn xattr_set(set: rustix::io::Result<()>, name: &[u8]) -> Result<()> {
    match set {
        Err(Errno::OPNOTSUPP | Errno::PERM) if name != b"security.capability" => Ok(()),
        other => other.what(|| format!("set attribute {:?}", String::from_utf8_lossy(name))),
    }
}

/// Last modification, and last access too: an archive says no other.
pub fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}
