//! The end of a cgroup: everyone in it is killed and waited for, then it is removed with all below, and with what was made above
//! it only to reach it.

use std::path::Path;
use std::time::Duration;

use super::{MADE, Occupants};
use crate::error::Result;
use crate::state::CgroupRecord;

/// Kills and removes. What is gone already is no error.
pub fn remove(record: &CgroupRecord, patience: Duration) -> Result<()> {
    // Mostly nobody is left in there.
    if record.unit.is_none() && rustix::fs::rmdir(&record.path).is_ok() {
        above(&record.path);
        return Ok(());
    }
    let occupants = kill_all(&record.path, patience)?;
    if let Some(unit) = &record.unit {
        // ORDER: after the kill: systemd would first ask politely, and wait.
        super::systemd::stop(unit)?;
    }
    // systemd removes an empty one itself.
    if let Some(occupants) = occupants {
        occupants.remove()?;
    }
    above(&record.path);
    Ok(())
}

/// Kills and waits.
pub fn kill(record: &CgroupRecord, patience: Duration) -> Result<()> {
    kill_all(&record.path, patience).map(drop)
}

fn kill_all(path: &Path, patience: Duration) -> Result<Option<Occupants>> {
    let Some(occupants) = Occupants::of(path)? else { return Ok(None) };
    let all: Vec<_> =
        occupants.processes()?.into_iter().filter_map(|pid| crate::sys::pidfd::open(pid).ok()).collect();
    occupants.kill()?;
    // A process tells of its end at once, its cgroup only every 10 ms. KERNEL: CGROUP_FILE_NOTIFY_MIN_INTV
    for process in all {
        let _ = crate::sys::pidfd::wait_exit(&process, patience);
    }
    occupants.wait_empty(patience)?;
    Ok(Some(occupants))
}

/// Removes the directories above as long as they carry our mark and are empty.
fn above(path: &Path) {
    for above in path.ancestors().skip(1) {
        let mut value = [0; 1];
        if rustix::fs::lgetxattr(above, MADE, &mut value).is_err() || rustix::fs::rmdir(above).is_err() {
            return;
        }
    }
}
