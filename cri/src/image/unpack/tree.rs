//! Entries of an archive made into a directory tree for overlayfs: whiteouts become 0/0 devices, opaque directories an attribute.
//!
//! It reads no archive. Nothing is opened by a path of the host; the tree's directory is private to root meanwhile.

use super::archive::{Entry, Kind};
use super::field::bad;
use super::place::{self, Directories, make_opaque, split};
use super::seal::{self, Seals};
use crate::error::{Context, Result};
use crate::image::config::Limits;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs's own files in layers made with it: not content.
const AUFS: &[u8] = b".wh..wh.";

/// A tree that is being made.
pub struct Tree<'a> {
    root: OwnedFd,
    /// Where what is replaced goes, to be removed with what is left of the work.
    old: OwnedFd,
    replaced: u64,
    directories: Directories,
    seals: Seals,
    /// Of the present file's content.
    crc: flate2::Crc,
    limits: &'a Limits,
    times: Vec<(Vec<u8>, Timestamps)>,
    entries: u64,
    bytes: u64,
    opaque_root: bool,
    exact: bool,
    overwritten: bool,
}

/// What became of an archive.
#[derive(Debug, Clone, Default)]
pub struct Grown {
    /// Inodes, links and all.
    pub inodes: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Directories that had no entry.
    pub implied: Vec<Vec<u8>>,
    /// Whether `bytes` is the sum of the files' sizes.
    pub exact: bool,
    /// Whether an entry took the place of another.
    pub replaced: bool,
    /// Whether the whole of lower layers is hidden.
    pub opaque_root: bool,
}

impl<'a> Tree<'a> {
    /// A tree in the empty directory `root`, its files listed in `seals`; `old` is another directory of the same filesystem.
    pub fn new((root, old): (OwnedFd, OwnedFd), seals: Seals, limits: &'a Limits) -> Result<Self> {
        let again = root.try_clone().what(|| "open layer")?;
        Ok(Self {
            root: again,
            old,
            replaced: 0,
            directories: Directories::new(root),
            seals,
            crc: flate2::Crc::new(),
            limits,
            times: Vec::new(),
            entries: 0,
            bytes: 0,
            opaque_root: false,
            exact: true,
            overwritten: false,
        })
    }

    /// Makes what the entry says; `content` is a file's.
    pub fn add(&mut self, entry: &Entry, content: &mut impl BufRead) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.layer_entries {
            return Err(bad(&format!("more than {} entries", self.limits.layer_entries)));
        }
        let path = place::clean(&entry.path, self.limits.path_bytes)?;
        self.add_at(&path, entry, content).what(|| format!("unpack {:?}", String::from_utf8_lossy(&path)))
    }

    /// Sets the times of directories, now that nothing is put into them any more.
    pub fn finish(self) -> Result<Grown> {
        for (path, times) in &self.times {
            let what = || format!("set times of {:?}", String::from_utf8_lossy(path));
            match place::open_in_root(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => rustix::fs::futimens(directory, times).what(what)?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno).what(what),
            }
        }
        self.seals.finish()?;
        Ok(Grown {
            inodes: self.entries,
            bytes: self.bytes,
            implied: self.directories.into_implied(),
            opaque_root: self.opaque_root,
            exact: self.exact,
            replaced: self.overwritten,
        })
    }

    fn add_at(&mut self, path: &[u8], entry: &Entry, content: &mut impl BufRead) -> Result<()> {
        if path.is_empty() {
            // The root itself; as anything but a directory it is nothing.
            if entry.kind != Kind::Directory {
                return Err(bad("the root is no directory"));
            }
            let root = self.directories.at(b"")?;
            self.times.push((Vec::new(), times(entry)));
            return attributes(root.as_fd(), entry);
        }
        let (parent, name) = split(path);
        let directory = self.directories.at(parent)?;
        if name == OPAQUE {
            self.opaque_root |= parent.is_empty();
            return make_opaque(&directory).what(|| "make directory opaque");
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.white_out(&directory, hidden);
        }
        match entry.kind {
            Kind::Directory => self.directory(&directory, path, entry),
            Kind::File => self.file(&directory, path, (entry, content)),
            Kind::Link => self.link(&directory, name, entry),
            Kind::Symlink => {
                let make = || rustix::fs::symlinkat(entry.link.as_slice(), &directory, name);
                self.put(&directory, name, make)?.what(|| "make symlink")?;
                named_attributes(&directory, name, entry)
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                self.put(&directory, name, || node(&directory, name, entry))?
                    .what(|| "make device or pipe")?;
                named_attributes(&directory, name, entry)
            }
        }
    }

    /// Makes something that is no directory. What has its name in this layer goes first; few names come twice, so it is not looked for.
    fn put<T>(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<rustix::io::Result<T>> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(directory, name, false)?;
                Ok(make())
            }
            made => Ok(made),
        }
    }

    /// `.wh.NAME` hides what lower layers have under that name; what this layer has is not meant.
    fn white_out(&self, directory: &OwnedFd, hidden: &[u8]) -> Result<()> {
        if hidden.is_empty() || matches!(hidden, b"." | b"..") {
            return Err(bad("a whiteout of nothing"));
        }
        match rustix::fs::statat(directory, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let own =
                    rustix::fs::openat(directory, hidden, flags, Mode::empty()).what(|| "open directory")?;
                make_opaque(&own).what(|| "make directory opaque")
            }
            Ok(_) => Ok(()),
            Err(_) => rustix::fs::mknodat(directory, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                .what(|| "make whiteout"),
        }
    }

    /// Makes room for an entry: what has its name in this layer goes, but a directory stays for a directory. Says whether it was a whiteout.
    fn clear(&mut self, directory: &OwnedFd, name: &[u8], for_directory: bool) -> Result<bool> {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno).what(|| "look for what was there"),
        };
        (self.exact, self.overwritten) = (false, true);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if for_directory => return Ok(false),
            FileType::Directory => {
                // With all that is in it, at whatever depth.
                self.replaced += 1;
                let away = self.replaced.to_string();
                rustix::fs::renameat(directory, name, &self.old, away.as_str())
                    .what(|| "replace directory")?;
                self.directories.forget();
                return Ok(false);
            }
            FileType::Symlink => self.directories.forget(),
            _ => {}
        }
        let whiteout = place::is_whiteout(directory, name);
        rustix::fs::unlinkat(directory, name, AtFlags::empty()).what(|| "replace file")?;
        Ok(whiteout)
    }

    fn directory(&mut self, parent: &OwnedFd, path: &[u8], entry: &Entry) -> Result<()> {
        let name = split(path).1;
        let make = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(entry.mode & 0o777));
        let mut hid = false;
        let mut made = make();
        if made == Err(Errno::EXIST) {
            hid = self.clear(parent, name, true)?;
            made = make();
        }
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).what(|| "make directory"),
        }
        self.directories.named(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty()).what(|| "open directory")?;
        if hid {
            make_opaque(&made).what(|| "make directory opaque")?;
        }
        self.times.push((path.to_vec(), times(entry)));
        attributes(made.as_fd(), entry)
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        (entry, content): (&Entry, &mut impl BufRead),
    ) -> Result<()> {
        let name = split(path).1;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Without the bits that a change of owner would clear.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let make = || rustix::fs::openat(parent, name, flags, mode);
        let file = File::from(self.put(parent, name, make)?.what(|| "make file")?);
        self.crc.reset();
        match &entry.sparse {
            None => {
                self.copy(&file, content, (0, entry.size))?;
                self.seals.add(path, entry.size, self.crc.sum())?;
            }
            Some(chunks) => {
                self.exact = false;
                if entry.size > self.limits.layer_bytes {
                    return Err(bad(&format!("a file of {} bytes", entry.size)));
                }
                file.set_len(entry.size).what(|| "set size")?;
                for chunk in chunks {
                    self.copy(&file, content, (chunk.offset, chunk.length))?;
                }
                // Its holes count as the zeros that are read from them; `write_all_at` has left the position at 0.
                let (size, crc) = seal::sum(&file).what(|| "read content back")?;
                self.seals.add(path, size, crc)?;
            }
        }
        attributes(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry)).what(|| "set times")
    }

    fn copy(
        &mut self,
        file: &File,
        content: &mut impl BufRead,
        (mut offset, mut left): (u64, u64),
    ) -> Result<()> {
        while left > 0 {
            let bytes = content.fill_buf().what(|| "read content")?;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            if count == 0 {
                return Err(bad("the archive ends inside a file"));
            }
            self.crc.update(&bytes[..count]);
            file.write_all_at(&bytes[..count], offset).what(|| "write content")?;
            content.consume(count);
            (offset, left) = (offset + count as u64, left - count as u64);
            self.bytes += count as u64;
        }
        Ok(())
    }

    fn link(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let target = place::clean(&entry.link, self.limits.path_bytes)?;
        let what = || format!("link to {:?}, which this layer should have", String::from_utf8_lossy(&target));
        let (other, other_name) = split(&target);
        let other = place::open_in_root(&self.root, other, OFlags::RDONLY | OFlags::DIRECTORY).what(what)?;
        if place::is_whiteout(&other, other_name) {
            return Err(Errno::NOENT).what(what);
        }
        let make = || rustix::fs::linkat(&other, other_name, parent, name, AtFlags::empty());
        self.put(parent, name, make)?.what(what)?;
        // Header of a link: owner and mode hold for the file, as other engines have it.
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).what(what)?;
        let same = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (entry.uid, entry.gid, entry.mode);
        if same && entry.xattrs.is_empty() {
            return Ok(());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink || entry.mode == 0 {
            return Ok(());
        }
        named_attributes(parent, name, entry)
    }
}

fn node(parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    let (kind, device) = match entry.kind {
        Kind::Char => (FileType::CharacterDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
        Kind::Block => (FileType::BlockDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
        _ => (FileType::Fifo, 0),
    };
    rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
}

/// Owner, mode, extended attributes of an open file or directory.
// ORDER: chown clears setuid bits and capabilities, so it comes first.
fn attributes(file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
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
fn named_attributes(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
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

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}
