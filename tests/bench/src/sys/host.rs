//! The benchmark's own needs of the kernel: a private mount namespace with a cgroup2 at its usual place, and a tmpfs.
//!
//! Programs are started by `std::process`, which uses posix_spawn: cheap, and the same for every side.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{Error, Result};
use std::ptr;

/// Leaves the host's mounts: what is mounted from here on ends with this process.
pub fn private_mounts() -> Result<()> {
    // SAFETY: plain numbers; this process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(Error::last_os_error());
    }
    mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE)
}

/// mount(2).
pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) -> Result<()> {
    let [source, target, kind] = [source, target, kind].map(|text| CString::new(text).unwrap_or_default());
    // SAFETY: three live NUL-terminated strings and no data.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, ptr::null()) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Whether a cgroup2 is mounted there.
pub fn is_cgroup2(path: &str) -> bool {
    let path = CString::new(path).unwrap_or_default();
    // SAFETY: statfs fills the structure, for which zeros are valid too.
    unsafe {
        let mut fs: libc::statfs = std::mem::zeroed();
        libc::statfs(path.as_ptr(), &raw mut fs) == 0 && i128::from(fs.f_type) == 0x6367_7270
    }
}

/// Makes this process the parent of orphaned containers, so that none stays a zombie for long.
pub fn adopt_orphans() {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// Reaps every child that has ended; programs started here have been waited for before.
pub fn reap() {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
}
