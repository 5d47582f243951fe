//! A container's cgroup, as far as the shim needs it: who is in it, who of them came with an exec, and the end of all of them. `rt` makes
//! and removes it.

use std::collections::{BTreeMap, BTreeSet};
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

/// Those in the cgroup that an exec has brought: who is in the session that `leader` began, and who descends from one of these. Nobody can
/// tell of a process that began a session of its own and lost its parent since.
pub fn family(cgroup: &Path, leader: u32) -> Result<BTreeSet<u32>> {
    let kin: BTreeMap<u32, (u32, u32)> =
        pids(cgroup)?.into_iter().filter_map(|pid| Some((pid, parent_and_session(pid)?))).collect();
    Ok(family_of(&kin, leader))
}

fn family_of(kin: &BTreeMap<u32, (u32, u32)>, leader: u32) -> BTreeSet<u32> {
    let mut family = BTreeSet::new();
    loop {
        let more: Vec<u32> = kin
            .iter()
            .filter(|(pid, _)| !family.contains(*pid))
            .filter(|(pid, (parent, session))| {
                **pid == leader || *session == leader || *parent == leader || family.contains(parent)
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return family;
        }
        family.extend(more);
    }
}

/// None if it is gone.
fn parent_and_session(pid: u32) -> Option<(u32, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may contain anything: state, parent, group and session come after its end.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    Some((parent, fields.nth(1)?.parse().ok()?))
}

/// KERNEL(5.14): cgroup.kill. One that is gone has nobody to kill.
pub fn kill(cgroup: &Path) -> Result<()> {
    match std::fs::write(cgroup.join("cgroup.kill"), "1") {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        killed => killed.what(|| format!("kill all of cgroup {}", cgroup.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_session_and_its_descendants() {
        // 1 is the container's; 10 the exec, 11 its child, 12 that one's in a session of its own, 13 an orphan of the session.
        let kin = BTreeMap::from([
            (1, (0, 1)),
            (2, (1, 1)),
            (10, (0, 10)),
            (11, (10, 10)),
            (12, (11, 12)),
            (13, (1, 10)),
            (20, (1, 20)),
        ]);
        assert_eq!(family_of(&kin, 10), BTreeSet::from([10, 11, 12, 13]));
        assert_eq!(family_of(&kin, 99), BTreeSet::new());
    }

    #[test]
    fn parent_and_session_are_the_kernels() {
        let own = parent_and_session(std::process::id()).unwrap();
        assert_eq!(own.0, std::os::unix::process::parent_id());
        assert_eq!(i32::try_from(own.1), Ok(nix::unistd::getsid(None).unwrap().as_raw()));
    }
}
