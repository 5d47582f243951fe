//! The standard streams that a container's process gets from the caller: where one is the host's /dev/null, it is so by a mount of its own.
//!
//! Whoever has a descriptor has the file: a container's root that is the host's could change the mode and the owner of the node
//! through it (fchmod(2), chmod(2) of /proc/self/fd/0), for all of the host. By a read-only mount he can't, and reads and writes as before.

use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Result};
use crate::parent::prepare;
use crate::privilege::in_user_namespace;
use crate::sys::is_character_device;

/// Whoever is not the host's root has no rights over the node in the first place.
pub fn protect() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let theirs = [stdin, stdout, stderr].map(|stream| is_character_device(stream, 1, 3));
    if theirs == [false; 3] {
        return Ok(());
    }
    let own = match prepare::null() {
        Err(_) if in_user_namespace() => return Ok(()),
        own => own?,
    };
    let what = || "open /dev/null on a mount of its own";
    let name = format!("/proc/self/fd/{}", own.as_raw_fd());
    let file = rustix::fs::open(name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).what(what)?;
    if theirs[0] {
        rustix::stdio::dup2_stdin(&file).what(what)?;
    }
    if theirs[1] {
        rustix::stdio::dup2_stdout(&file).what(what)?;
    }
    if theirs[2] {
        rustix::stdio::dup2_stderr(&file).what(what)?;
    }
    Ok(())
}
