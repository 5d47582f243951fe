//! A container's cgroup, as far as the shim needs it: who is in it, and the end of all of them. `rt` makes and removes it.

use std::path::Path;

use crate::error::{Context, Result};

/// All processes in it and below.
pub fn pids(cgroup: &Path) -> Result<Vec<u32>> {
    let what = || format!("list the processes of cgroup {}", cgroup.display());
    let text = match std::fs::read_to_string(cgroup.join("cgroup.procs")) {
        // It, or a cgroup below, was removed meanwhile; a threaded one lists its processes above.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)) =>
        {
            String::new()
        }
        text => text.what(what)?,
    };
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let below = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        pids.extend(self::pids(&entry.path())?);
    }
    Ok(pids)
}

/// KERNEL(5.14): cgroup.kill. One that is gone has nobody to kill.
pub fn kill(cgroup: &Path) -> Result<()> {
    match std::fs::write(cgroup.join("cgroup.kill"), "1") {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        killed => killed.what(|| format!("kill all of cgroup {}", cgroup.display())),
    }
}
