//! Reads and writes the small files of a cgroup, relative to its directory. What they mean is the callers'.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// Descriptors of directories that can be listed, and cloned into.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Writes in a single write(2), as the kernel wants it.
pub fn write(dir: impl AsFd, name: &str, value: &str) -> Result<()> {
    let file = rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

/// Reads a file of one line, which the kernel gives in one read(2).
pub fn read_line(dir: impl AsFd, name: &str) -> Result<String> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0; 512];
    let len = rustix::io::read(&file, &mut text)?;
    std::str::from_utf8(&text[..len]).map(str::to_owned).map_err(|_| Errno::ILSEQ)
}

/// Reads all of it.
pub fn read(dir: impl AsFd, name: &str) -> Result<String> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(512);
    loop {
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)) {
            Ok(0) => break,
            // KERNEL: kernfs gives all that there is as long as there is room for it.
            Ok(_) if text.len() < text.capacity() => break,
            Ok(_) => text.reserve(512),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    String::from_utf8(text).map_err(|_| Errno::ILSEQ)
}

/// A whole number; `None` for `max`.
pub fn read_number(dir: impl AsFd, name: &str) -> Result<Option<u64>> {
    Ok(read(dir, name)?.trim().parse().ok())
}

/// Opens a directory below, never through a link.
pub fn below(dir: impl AsFd, path: &str) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(dir, path, DIRECTORY, Mode::empty(), resolve)
}
