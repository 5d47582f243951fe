//! Where shims live and how well they are kept from the OOM killer: a cgroup of their own, so that what they use is told from
//! what the server uses, and a score next to the server's. It starts none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Context, Result};
use crate::oci::Host;

/// The last to be ended but for what the machine itself needs; that of pause processes too.
const SCORE: i32 = -998;

/// The cgroup that shims are born in.
#[derive(Debug)]
pub struct Cgroup {
    /// `None`: they stay in the server's.
    path: Option<PathBuf>,
    open: Mutex<Option<Arc<OwnedFd>>>,
}

/// Where it may be, by what the machine says: below the server's own cgroup if systemd has delegated that (`Delegate=yes`),
/// beside the pods' if there is no systemd. Else the reason why there is none.
pub fn cgroup() -> std::result::Result<PathBuf, String> {
    let mount = super::cgroup_mount().ok_or("there is no cgroup2")?;
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(mount.join("rt/shims"));
    }
    let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own =
        table.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("the server is in no cgroup2")?;
    let own = mount.join(own);
    // SPEC: systemd.resource-control(5), Delegate=
    let mut value = [0; 8];
    match rustix::fs::getxattr(&own, "trusted.delegate", &mut value) {
        Ok(_) if value[0] == b'1' => Ok(own.join("shims")),
        _ => Err(format!("systemd has not delegated {} (Delegate=yes in the server's unit)", own.display())),
    }
}

/// The score that shims get, and what is amiss with it.
pub fn score(host: &Host) -> (i32, Option<String>) {
    if host.oom_score_adj <= SCORE || host.lowers_oom_score {
        return (SCORE, None);
    }
    let own = host.oom_score_adj;
    (own, Some(format!("{own} instead of {SCORE}: the server may not lower it (no CAP_SYS_RESOURCE)")))
}

/// Whether what was opened before is of use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anew {
    No,
    Yes,
}

impl Cgroup {
    /// At `path`, which is made when it is needed.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, open: Mutex::default() }
    }

    /// Calls `spawn` with the cgroup, made anew if somebody has removed it.
    pub fn with<T>(&self, spawn: impl Fn(Option<BorrowedFd<'_>>) -> nix::Result<T>) -> Result<T> {
        let Some(path) = &self.path else { return spawn(None).what(|| "in the server's cgroup") };
        let what = || format!("in the cgroup {}", path.display());
        match spawn(Some(self.open(path, Anew::No)?.as_fd())) {
            Err(Errno::ENODEV | Errno::ENOENT) if !path.exists() => {
                spawn(Some(self.open(path, Anew::Yes)?.as_fd())).what(what)
            }
            done => done.what(what),
        }
    }

    fn open(&self, path: &Path, anew: Anew) -> Result<Arc<OwnedFd>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = open.as_ref().filter(|_| anew == Anew::No) {
            return Ok(Arc::clone(there));
        }
        crate::paths::host_dir(path)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let made = rustix::fs::openat(CWD, path, flags, Mode::empty());
        let made = Arc::new(made.what(|| format!("open the cgroup {}", path.display()))?);
        *open = Some(Arc::clone(&made));
        Ok(made)
    }
}
