//! The host's procfs, opened before the root changes and let go of at once: what is written through it can't be redirected by the
//! container.
//!
//! CVE-2025-52881, CVE-2019-16884: a /proc inside the container is never written to. Entries below /proc/sys and /proc/self are
//! those of the task that opens them, so the host's instance serves a process in other namespaces just as well.

use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, Mode, OFlags, ResolveFlags};

use crate::error::{Context, Error, Kind, Result};
use crate::sys::mount::is_procfs;

/// The root of the host's procfs.
#[derive(Debug)]
pub struct HostProc(OwnedFd);

impl HostProc {
    /// Must be called while the host's root is still ours.
    pub fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).what(|| "open the host's /proc")?;
        if !is_procfs(&proc).what(|| "look at the host's /proc")? {
            return Err(Error::new(Kind::Unsupported, "the host's /proc is not a procfs")
                .cure("mount -t proc proc /proc"));
        }
        Ok(Self(proc))
    }

    /// Writes a file of it in one call.
    pub fn write(&self, path: &str, value: &[u8]) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        rustix::io::write(&file, value).map(drop)
    }

    /// Whether it has this file.
    pub fn has(&self, path: &str) -> bool {
        rustix::fs::accessat(&self.0, path, Access::EXISTS, AtFlags::empty()).is_ok()
    }
}

/// Sets kernel parameters, of the namespaces that this process is in.
pub fn set_sysctl(parameters: &[(String, String)]) -> Result<()> {
    if parameters.is_empty() {
        return Ok(());
    }
    let proc = HostProc::open()?;
    for (path, value) in parameters {
        proc.write(&format!("sys/{path}"), value.as_bytes())
            .what(|| format!("write {value:?} to /proc/sys/{path}"))?;
    }
    Ok(())
}
