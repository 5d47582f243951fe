//! A container's cgroup, as far as the shim needs it: who is in it, who of them came with an exec, and the end of all of them. `rt` makes
//! and removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Context, Result};

/// How many processes are held by their pidfds at a time.
const AT_A_TIME: usize = 128;
/// How often a family is looked at anew, and for how long: whoever forks faster than that is killed with the container.
const ROUNDS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Sends a signal to all processes in it and below.
pub fn signal_all(cgroup: &Path, signal: i32) -> Result<()> {
    signal_members(cgroup, &pids(cgroup)?, signal)
}

/// Sends a signal to those of `wanted` that are in it. A container decides when its processes end, and so who gets their numbers: only
/// whom we hold by a pidfd, and who is in the cgroup after that, is meant.
fn signal_members(cgroup: &Path, wanted: &[u32], signal: i32) -> Result<()> {
    for some in wanted.chunks(AT_A_TIME) {
        let held: Vec<_> = some
            .iter()
            .filter_map(|pid| Some((*pid, runtime::sys::pidfd::open(i32::try_from(*pid).ok()?).ok()?)))
            .collect();
        // ORDER: after they are held. A number that another process has now is not in the list, or what we hold has ended.
        let members: BTreeSet<u32> = pids(cgroup)?.into_iter().collect();
        for (pid, pidfd) in held.iter().filter(|(pid, _)| members.contains(pid)) {
            match runtime::sys::pidfd::send_signal(pidfd.as_fd(), signal) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(errno) => return Err(errno).what(|| format!("send signal {signal} to process {pid}")),
            }
        }
    }
    Ok(())
}

/// SIGKILL to those in the cgroup that an exec has brought, but for `leader`, its first process, which its parent ends: who is in the
/// session that it began, and who descends from one of these. Nobody can tell of a process that began a session of its own and lost its
/// parent since. Reads as many files as there are processes: not for a thread that others wait for.
pub fn kill_family(cgroup: &Path, leader: u32) -> Result<()> {
    let (began, mut killed) = (Instant::now(), BTreeSet::new());
    // Those may be born meanwhile whose parents have not been killed yet.
    for _ in 0..ROUNDS {
        let kin: BTreeMap<u32, (u32, u32)> =
            pids(cgroup)?.into_iter().filter_map(|pid| Some((pid, parent_and_session(pid)?))).collect();
        let mut family = family_of(&kin, leader);
        family.remove(&leader);
        let more: Vec<u32> = family.difference(&killed).copied().collect();
        if more.is_empty() || began.elapsed() > PATIENCE {
            break;
        }
        signal_members(cgroup, &more, libc::SIGKILL)?;
        killed.extend(more);
    }
    Ok(())
}

/// Each process is looked at once.
fn family_of(kin: &BTreeMap<u32, (u32, u32)>, leader: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (pid, (parent, _)) in kin {
        children.entry(*parent).or_default().push(*pid);
    }
    let session = kin.iter().filter(|(_, (_, session))| *session == leader).map(|(pid, _)| *pid);
    let mut found: Vec<u32> = session.chain(kin.contains_key(&leader).then_some(leader)).collect();
    found.extend(children.get(&leader).into_iter().flatten());
    let mut family = BTreeSet::new();
    while let Some(pid) = found.pop() {
        if family.insert(pid) {
            found.extend(children.get(&pid).into_iter().flatten());
        }
    }
    family
}

/// None if it is gone.
fn parent_and_session(pid: u32) -> Option<(u32, u32)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
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

    /// Each is the last one's child, in a session of its own: with a look at all for each of them this would take minutes.
    #[test]
    fn a_family_of_any_depth_is_found_in_one_walk() {
        let kin: BTreeMap<u32, (u32, u32)> = (10..200_010).map(|pid| (pid, (pid - 1, pid))).collect();
        assert_eq!(family_of(&kin, 10).len(), 200_000);
    }

    /// What a container's processes were called a moment ago may be the host's processes now.
    #[test]
    fn only_members_are_signalled_whatever_was_listed_before() {
        let dir = std::env::temp_dir().join(format!("shim-cgroup-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let sleep = || std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let (mut member, mut stranger) = (sleep(), sleep());
        std::fs::write(dir.join("cgroup.procs"), format!("{}\n", member.id())).unwrap();
        signal_members(&dir, &[stranger.id(), member.id()], libc::SIGKILL).unwrap();
        assert!(!member.wait().unwrap().success(), "it is killed");
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger with a member's number is killed");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn parent_and_session_are_the_kernels() {
        let own = parent_and_session(std::process::id()).unwrap();
        assert_eq!(own.0, std::os::unix::process::parent_id());
        assert_eq!(i32::try_from(own.1), Ok(nix::unistd::getsid(None).unwrap().as_raw()));
    }
}
