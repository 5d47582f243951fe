//! Runs this program from a file of its own that nobody can write: CVE-2019-5736.
//!
//! Whoever sees a process in /proc can open its executable, take leases on it, and write to it as soon as nothing runs from it. So every
//! command that makes or enters a container runs from a copy which no other process has: what a container does to it, it does to nothing.
//! The copy is in a tmpfs that is attached nowhere and read-only from then on, or in a sealed memory file.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::again;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::exec::execve_fd;
use crate::sys::process;

/// Tells the second life which file it is executed from, as `DEVICE:INODE`: a copy that is not sealed ends in an error and not in a circle.
const MARK: &str = "_RT_SEALED";

/// What ps(1) shows. KERNEL: what is executed by a descriptor is named by its number, up to 6.13.
const NAME: &CStr = c"rt";

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Comes back only in a process whose executable is a copy of its own that can't be written.
pub fn ensure() -> Result<()> {
    let what = || "run from an executable that nobody else has";
    let own = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .what(what)
        .map_err(|error| match error.errno() {
            Some(libc::ENOENT) => error.cure("mount -t proc proc /proc"),
            _ => error,
        })?;
    let marked = std::env::var(MARK).is_ok_and(|mark| name_of(&own).is_ok_and(|own| own == mark));
    if is_sealed(&own, marked).what(what)? {
        return process::set_name(NAME).what(what);
    }
    if marked {
        return Err(Error::new(Kind::Denied, format!("{}: the copy can be written too", what())));
    }
    let copy = tmpfs_copy(&own).or_else(|_| memory_copy(&own)).what(what)?;
    let (args, env) = again::arguments_and_environment(MARK, &name_of(&copy).what(what)?);
    let errno = execve_fd(copy.as_fd(), &args, &env);
    Err(Error::os(errno as i32, what()))
}

fn name_of(file: &OwnedFd) -> rustix::io::Result<String> {
    let stat = rustix::fs::fstat(file)?;
    Ok(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// On a read-only filesystem, the very file that the first life has made there; or a memory file with all seals.
fn is_sealed(own: &OwnedFd, marked: bool) -> rustix::io::Result<bool> {
    if marked && rustix::fs::fstatvfs(own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    Ok(rustix::fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SEALS)))
}

/// With huge pages, where the kernel has them, a copy takes a sixth of what a memory file takes: 0.1 ms instead of 0.5.
fn tmpfs_copy(own: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    match rustix::mount::fsconfig_set_string(&context, c"huge", c"always") {
        // A kernel without huge pages does not know the word.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let room = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let draft = rustix::fs::openat(&room, NAME, flags, Mode::from_raw_mode(0o500))?;
    copy(own, &draft)?;
    // KERNEL: what is open for writing can't be executed.
    drop(draft);
    let copy = rustix::fs::openat(&room, NAME, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    rustix::mount::fsconfig_set_flag(&context, c"ro")?;
    rustix::mount::fsconfig_reconfigure(&context)?;
    Ok(copy)
}

/// A copy of a program in memory that nobody can write any more.
pub fn memory_copy(own: &OwnedFd) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // KERNEL(6.3): MFD_EXEC, without which a memory file may not be executable (sysctl vm.memfd_noexec).
    let made = match rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(NAME, flags),
        made => made,
    };
    let memory = made.what(|| "make a memory file").map_err(|error| match error.errno() {
        Some(libc::EACCES) => {
            error.cure("sysctl vm.memfd_noexec=2 forbids it, and this process may not make a tmpfs")
        }
        _ => error,
    })?;
    copy(own, &memory).what(|| "copy the executable")?;
    rustix::fs::fcntl_add_seals(&memory, SEALS).what(|| "seal the copy")?;
    Ok(memory)
}

fn copy(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let size = rustix::fs::fstat(from)?.st_size.cast_unsigned();
    let mut at = 0;
    while at < size {
        let left = size - at;
        if rustix::fs::sendfile(to, from, Some(&mut at), left as usize)? == 0 {
            return Err(Errno::IO); // it was cut off meanwhile
        }
    }
    Ok(())
}
