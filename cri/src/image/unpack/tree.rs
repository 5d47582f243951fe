//! Entries of an archive made into a directory tree for overlayfs: whiteouts become 0/0 devices, opaque directories an attribute.
//!
//! It reads no archive. Nothing is opened by a path of the host; the tree's directory is private to root meanwhile.

use super::archive::{Entry, Kind, torn};
use super::attributes::{attributes, create, named_attributes, node, times};
use super::budget::{Account, BLOCK};
use super::cores;
use super::creators::{Creators, Job, make};
use super::field::{bad, beyond};
use super::place::{self, Directories, make_opaque, split};
use super::resolve::open_in_root;
use super::seal::Seals;
use super::sum;
use super::times::Times;
use crate::error::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::Scope;

/// Files of at most so many bytes are made by two threads; a copy of more would cost more than it gains.
const SMALL: u64 = 16 << 10;
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
    directories: Directories<'a>,
    creators: Creators,
    seals: Seals,
    /// Of the present file's content.
    crc: flate2::Crc,
    account: &'a Account,
    times: Times,
    entries: u64,
    bytes: u64,
    /// Sizes of files with holes.
    declared: u64,
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
    pub implied: BTreeSet<Vec<u8>>,
    /// Whether `bytes` is the sum of the files' sizes.
    pub exact: bool,
    /// Whether an entry took the place of another.
    pub replaced: bool,
    /// Whether the whole of lower layers is hidden.
    pub opaque_root: bool,
}

impl<'a> Tree<'a> {
    /// A tree in the empty directory `root`, its files listed in `seals`; `old` is another directory of the same filesystem.
    pub fn new<'scope>(
        (root, old): (OwnedFd, OwnedFd),
        (seals, scope): (Seals, &'scope Scope<'scope, '_>),
        account: &'a Account,
    ) -> Result<Self> {
        let again = root.try_clone().what(|| "open layer")?;
        Ok(Self {
            root: again,
            old,
            replaced: 0,
            directories: Directories::new(root, account),
            creators: Creators::new(scope, make),
            seals,
            crc: flate2::Crc::new(),
            account,
            times: Times::default(),
            entries: 0,
            bytes: 0,
            declared: 0,
            opaque_root: false,
            exact: true,
            overwritten: false,
        })
    }

    /// Makes what the entry says; `content` is a file's.
    pub fn add(&mut self, entry: &Entry, content: &mut impl BufRead) -> Result<()> {
        self.entries += 1;
        // A block for the inode and its name, and one for its attributes.
        let blocks = 1 + u64::from(!entry.xattrs.is_empty());
        self.account.spend(blocks * BLOCK, &self.root)?;
        let path = place::clean(&entry.path, self.account.limits().path_bytes)?;
        // ORDER: before anything is looked for that may be unmade.
        if self.creators.concern(&path) || !matches!(entry.kind, Kind::File | Kind::Directory | Kind::Symlink)
        {
            self.creators.settle()?;
        }
        self.add_at(&path, entry, content).what(|| format!("unpack {:?}", String::from_utf8_lossy(&path)))?;
        let most = self.account.limits().layer_entries;
        if self.inodes() > most {
            let what = "more entries, with directories that have none of their own";
            return Err(beyond(
                what,
                most,
                "raise registry.limits.layer_entries if the image is to be trusted",
            ));
        }
        self.creators.hand_over()
    }

    /// Entries, and directories without one.
    fn inodes(&self) -> u64 {
        self.entries + self.directories.made()
    }

    /// Sets the times of directories, now that nothing is put into them any more.
    pub fn finish(mut self) -> Result<Grown> {
        self.creators.settle()?;
        let inodes = self.inodes();
        std::mem::take(&mut self.times).set(&self.root, self.account)?;
        self.seals.finish()?;
        Ok(Grown {
            inodes,
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
            self.times.add(b"", &times(entry), (self.account, &self.old))?;
            return attributes(root.as_fd(), entry);
        }
        let (parent, name) = split(path);
        let directory = self.directories.at(parent)?;
        if self.directories.aliased() {
            self.creators.settle()?;
        }
        if name == OPAQUE {
            self.opaque_root |= parent.is_empty();
            return make_opaque(&directory).what(|| "make directory opaque");
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            self.creators.settle()?;
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
        self.creators.settle()?;
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
        self.times.add(path, &times(entry), (self.account, &self.old))?;
        attributes(made.as_fd(), entry)
    }

    fn file(
        &mut self,
        parent: &Arc<OwnedFd>,
        path: &[u8],
        (entry, content): (&Entry, &mut impl BufRead),
    ) -> Result<()> {
        let name = split(path).1;
        let small = entry.sparse.is_none() && entry.size <= SMALL && entry.described() <= SMALL;
        if small && cores::to_spare() && self.is_free(parent, name) {
            return self.small_file(parent, path, (entry, content));
        }
        let make = || create(parent, name, entry);
        let file = File::from(self.put(parent, name, make)?.what(|| "make file")?);
        self.crc.reset();
        match &entry.sparse {
            None => {
                self.copy(&file, content, (0, entry.size))?;
                self.seals.add(path, entry.size, self.crc.sum())?;
            }
            Some(chunks) => {
                self.exact = false;
                // Somebody may copy it without its holes.
                let most = self.account.limits().layer_bytes;
                self.declared = self.declared.saturating_add(entry.size);
                if self.declared > most {
                    let what =
                        format!("a file of {} bytes and files with holes of {}", entry.size, self.declared);
                    return Err(beyond(
                        what,
                        most,
                        "raise registry.limits.layer_bytes if the image is to be trusted",
                    ));
                }
                file.set_len(entry.size).what(|| "set size")?;
                let mut end = 0;
                for chunk in chunks {
                    self.account.spend(BLOCK, &self.root)?;
                    // Holes count as the zeros that are read from them.
                    sum::zeros(&mut self.crc, chunk.offset - end);
                    self.copy(&file, content, (chunk.offset, chunk.length))?;
                    end = chunk.offset + chunk.length;
                }
                sum::zeros(&mut self.crc, entry.size - end);
                self.seals.add(path, entry.size, self.crc.sum())?;
            }
        }
        attributes(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry)).what(|| "set times")
    }

    /// Whether nothing has this name: a file can be made later.
    fn is_free(&self, parent: &OwnedFd, name: &[u8]) -> bool {
        let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        !self.directories.aliased() && found.is_err_and(|errno| errno == Errno::NOENT)
    }

    fn small_file(
        &mut self,
        directory: &Arc<OwnedFd>,
        path: &[u8],
        (entry, from): (&Entry, &mut impl BufRead),
    ) -> Result<()> {
        let mut content = vec![0; usize::try_from(entry.size).unwrap_or_default()];
        from.read_exact(&mut content).map_err(not_a_short_file).what(|| "read content")?;
        self.crc.reset();
        self.crc.update(&content);
        self.bytes += entry.size;
        self.seals.add(path, entry.size, self.crc.sum())?;
        let (directory, path, entry) = (directory.clone(), path.to_vec(), entry.clone());
        self.creators.add(Job { directory, path, entry, content });
        Ok(())
    }

    fn copy(
        &mut self,
        file: &File,
        content: &mut impl BufRead,
        (mut offset, mut left): (u64, u64),
    ) -> Result<()> {
        while left > 0 {
            let bytes = content.fill_buf().map_err(not_a_short_file).what(|| "read content")?;
            if bytes.is_empty() {
                return Err(torn()).what(|| "read content");
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.crc.update(&bytes[..count]);
            file.write_all_at(&bytes[..count], offset).what(|| "write content")?;
            content.consume(count);
            (offset, left) = (offset + count as u64, left - count as u64);
            self.bytes += count as u64;
        }
        Ok(())
    }

    fn link(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let target = place::clean(&entry.link, self.account.limits().path_bytes)?;
        let what = || format!("link to {:?}, which this layer should have", String::from_utf8_lossy(&target));
        let (other, other_name) = split(&target);
        let walk = |parts| self.account.walk(parts, &self.root);
        let other = open_in_root(&self.root, other, OFlags::RDONLY | OFlags::DIRECTORY, &walk);
        let other = other.what(what)?.what(what)?;
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

/// A decompressor says of a stream that was cut only that it was.
fn not_a_short_file(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { torn() } else { error }
}
