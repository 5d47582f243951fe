//! `tmpcopyup`: a tmpfs that starts with what it covers. It copies by handles only and follows no links.
//!
//! What is there was written by a stranger: nothing is opened but regular files and directories, and none of it waits. FIFOs are made
//! anew. Sockets and device nodes are left out: a copy of a socket has no listener, and devices come from the config alone. How much is copied has bounds,
//! holes stay holes, and what is mounted below isn't copied.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::error::{Context, Error, Kind, Result};

/// Far more than what is covered so has: /etc, /var, a home directory.
const MOST_ENTRIES: u32 = 100_000;
/// All files together, without their holes.
const MOST_BYTES: u64 = 1 << 30;
/// Two descriptors are open for each.
const MOST_DEPTH: u32 = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A file that is no longer what it was when it was looked at doesn't make us wait.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Copies the directory that the handle `from` stands for into the detached mount `to`.
pub fn copy(from: impl AsFd, to: &OwnedFd) -> Result<()> {
    let from =
        rustix::fs::openat(from, c".", DIRECTORY, Mode::empty()).what(|| "open what the tmpfs covers")?;
    let to = rustix::fs::openat(to, c".", DIRECTORY, Mode::empty()).what(|| "open the tmpfs")?;
    let stat = rustix::fs::fstat(&from).what(|| "look at what the tmpfs covers")?;
    let mut left = Left { entries: MOST_ENTRIES, bytes: MOST_BYTES, depth: MOST_DEPTH };
    let copied = left.directory(&from, &to).and_then(|()| Ok(attributes(&to, c"", &stat)?));
    copied.map_err(|stop| match stop {
        Stop::TooMuch(what) => {
            Error::new(Kind::Denied, format!("copy what the tmpfs covers: it has more than {what}"))
                .cure("leave tmpcopyup out, and give the container a volume")
        }
        Stop::Errno(errno) => Error::os(errno.raw_os_error(), "copy what the tmpfs covers"),
    })
}

enum Stop {
    TooMuch(String),
    Errno(Errno),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// What may still be copied.
struct Left {
    entries: u32,
    bytes: u64,
    depth: u32,
}

impl Left {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<(), Stop> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| Stop::TooMuch(format!("{MOST_DEPTH} directories in each other")))?;
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries = self
                .entries
                .checked_sub(1)
                .ok_or_else(|| Stop::TooMuch(format!("{MOST_ENTRIES} files and directories")))?;
            self.one(from, to, name)?;
        }
        self.depth += 1;
        Ok(())
    }

    fn one(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Stop> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let below = rustix::fs::openat(to, name, DIRECTORY, Mode::empty())?;
                if let Some(source) = here(from, name, DIRECTORY)? {
                    self.directory(&source, &below)?;
                }
                attributes(&below, c"", &stat)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&link, to, name)?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            FileType::RegularFile => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let copy = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                if let Some(source) = here(from, name, FILE)? {
                    self.content(&source, &copy)?;
                }
                attributes(&copy, c"", &stat)?;
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(to, name, FileType::Fifo, mode, 0)?;
                attributes(to, name, &stat)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The data of a file, and its size.
    fn content(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<(), Stop> {
        let stat = rustix::fs::fstat(from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::STALE.into()); // it has been exchanged
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        rustix::fs::ftruncate(to, size)?;
        let mut at = 0;
        while at < size {
            at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Err(Errno::NXIO) => break, // a hole up to the end
                data => data?,
            };
            let end = rustix::fs::seek(from, SeekFrom::Hole(at))?.min(size);
            rustix::fs::seek(to, SeekFrom::Start(at))?;
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 20);
                let copied = rustix::fs::sendfile(to, from, Some(&mut at), most)?;
                if copied == 0 {
                    return Ok(()); // it has become shorter
                }
                self.bytes = self
                    .bytes
                    .checked_sub(copied as u64)
                    .ok_or_else(|| Stop::TooMuch(format!("{} MiB", MOST_BYTES >> 20)))?;
            }
        }
        Ok(())
    }
}

/// None for what is mounted there.
fn here(dir: &OwnedFd, name: &CStr, flags: OFlags) -> rustix::io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Owner before mode: a change of owner takes the set-user-id bit away.
fn attributes(dir: impl AsFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    };
    if name.is_empty() {
        rustix::fs::fchown(&dir, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&dir, mode)?;
        return rustix::fs::futimens(&dir, &times);
    }
    rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(&dir, name, mode, AtFlags::empty())?;
    rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
