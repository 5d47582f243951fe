//! Whether a process is still the one that we started. It does not wait for and does not signal anyone.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};

/// A process for good: a pid can be given to another process later, a pid with its start time can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// As seen in the runtime's PID namespace.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this pid now. NotFound if there is none.
    pub fn of(pid: i32) -> Result<Self> {
        match read_stat(pid)? {
            Some(stat) => Ok(Self { pid, start_time: stat.start_time }),
            None => Err(Error::new(Kind::NotFound, format!("process {pid} does not exist"))),
        }
    }

    /// Still there, and not a zombie.
    pub fn is_alive(self) -> Result<bool> {
        let stat = read_stat(self.pid)?;
        Ok(stat.is_some_and(|s| s.start_time == self.start_time && !matches!(s.state, b'Z' | b'X' | b'x')))
    }

    /// How far it has come.
    pub fn progress(self) -> Progress {
        let stat = read_stat(self.pid).ok().flatten().filter(|stat| stat.start_time == self.start_time);
        stat.map_or(Progress::Gone, |stat| stat.progress())
    }

    /// A descriptor of it, `None` if it is gone. Opened before the check, so that what was checked is what is held.
    pub fn open(self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(self.is_alive()?.then_some(fd)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("open a pidfd of process {pid}", pid = self.pid)),
        }
    }
}

/// Where a process is that was cloned to execute a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// On its way.
    OnItsWay,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by its tracer.
    Traced,
    /// It has executed a program.
    Executed,
    /// It has ended, without that.
    Gone,
}

/// Of a process that the caller holds: the number can't be another's.
pub fn progress(pid: i32) -> Progress {
    read_stat(pid).ok().flatten().map_or(Progress::Gone, |stat| stat.progress())
}

/// All children of this process. KERNEL: /proc/PID/task/TID/children is not in every kernel.
pub fn children() -> Result<Vec<ProcessId>> {
    let us = std::process::id().cast_signed();
    // As a rule there are none, and all of /proc would be read to find that.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if let Err(rustix::io::Errno::CHILD) = waitid(WaitId::All, look) {
        return Ok(Vec::new());
    }
    let children = processes().what(|| "read /proc")?.filter(|(_, stat)| stat.parent == us);
    Ok(children.map(|(pid, stat)| ProcessId { pid, start_time: stat.start_time }).collect())
}

/// Every process of /proc that is still there when it is read.
fn processes() -> std::io::Result<impl Iterator<Item = (i32, Stat)>> {
    let pids = std::fs::read_dir("/proc")?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Some((pid, read_stat(pid).ok().flatten()?))))
}

/// Of the processes below one, those that somebody holds: children, their children, and so on; whatever they execute.
pub fn held_below(pid: i32) -> Vec<(Progress, OwnedFd)> {
    let Ok(all) = processes() else { return Vec::new() };
    let mut others: Vec<(i32, Stat)> = all.collect();
    let (mut family, mut held) = (vec![pid], Vec::new());
    while let Some(parent) = family.pop() {
        let (children, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|(_, stat)| stat.parent == parent);
        others = rest;
        for (pid, stat) in children {
            family.push(pid);
            let Some(how) = stat.held() else { continue };
            let who = ProcessId { pid, start_time: stat.start_time };
            held.extend(who.open().ok().flatten().map(|pidfd| (how, pidfd)));
        }
    }
    held
}

struct Stat {
    state: u8,
    parent: i32,
    flags: u64,
    start_time: u64,
}

impl Stat {
    /// Told by the kernel alone, also of who may not be looked at; nobody who traces it can change it but by an execution.
    fn progress(&self) -> Progress {
        /// KERNEL: include/linux/sched.h, PF_FORKNOEXEC: "forked but didn't exec"; each clone sets it, each execve clears it.
        const FORKED_NOT_EXECUTED: u64 = 0x40;
        match self.state {
            _ if self.flags & FORKED_NOT_EXECUTED == 0 => Progress::Executed,
            b'Z' | b'X' | b'x' => Progress::Gone,
            _ => self.held().unwrap_or(Progress::OnItsWay),
        }
    }

    /// How somebody holds it, whatever it executes.
    fn held(&self) -> Option<Progress> {
        match self.state {
            b'T' => Some(Progress::Stopped),
            b't' => Some(Progress::Traced),
            _ => None,
        }
    }
}

/// `None` if there is no such process.
fn read_stat(pid: i32) -> Result<Option<Stat>> {
    use rustix::io::Errno;
    let path = format!("/proc/{pid}/stat");
    // The longest line that the kernel can write is below 1 KiB: 50 numbers of 20 digits would be, and comm has 64 bytes.
    let mut buffer = [0; 2048];
    let read = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut buffer));
    let len = match read {
        Ok(len) => len,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(errno).what(|| format!("read {path}")),
    };
    match parse_stat(&buffer[..len]) {
        Some(stat) => Ok(Some(stat)),
        None => Err(Error::new(Kind::Internal, format!("understand {path}: not as in proc(5)"))),
    }
}

/// comm (field 2, in parentheses) may hold anything, parentheses too: fields are counted from its last one.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let comm_end = line.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(line.get(comm_end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(9 - 5)?.parse().ok()?;
    let start_time = fields.nth(22 - 10)?.parse().ok()?;
    Some(Stat { state, parent, flags, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comm_can_not_fake_other_fields() {
        let line = b"89653 (x) S 1 1 (y) R 89630 89653 89653 0 -1 4194560 29689 28896 0 3 146 32 76 19 20 0 1 0 2971844 52965376 3920 1\n";
        let stat = parse_stat(line).unwrap();
        let fields = (stat.state, stat.parent, stat.flags, stat.start_time);
        assert_eq!(fields, (b'R', 89630, 4_194_560, 2_971_844));
        for broken in [&b""[..], b"1", b"1 (x", b"1 (x)", b"1 (x) S 1 2 3", b"1 (x) S \xff"] {
            assert!(parse_stat(broken).is_none());
        }
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let me = ProcessId::of(std::process::id().try_into().unwrap()).unwrap();
        assert!(me.is_alive().unwrap() && me.open().unwrap().is_some());
        let former = ProcessId { start_time: me.start_time - 1, ..me };
        assert!(!former.is_alive().unwrap() && former.open().unwrap().is_none());
    }

    #[test]
    fn a_process_has_executed_its_program_once_it_has() {
        let us = std::process::id().cast_signed();
        assert_eq!(
            (progress(us), ProcessId::of(us).unwrap().progress()),
            (Progress::Executed, Progress::Executed)
        );
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(progress(pid), Progress::Executed);
        child.wait().unwrap();
        assert_eq!(progress(pid), Progress::Gone);
        let line = |state: char| format!("1 (x) {state} 1 1 1 0 -1 4194368 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0\n");
        let of = |state| parse_stat(line(state).as_bytes()).unwrap().progress();
        assert_eq!(
            ['S', 'T', 't', 'Z'].map(of),
            [Progress::OnItsWay, Progress::Stopped, Progress::Traced, Progress::Gone]
        );
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let id = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        rustix::process::waitid(
            rustix::process::WaitId::Pid(Pid::from_raw(id.pid).unwrap()),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(!id.is_alive().unwrap());
        child.wait().unwrap();
        assert!(!id.is_alive().unwrap());
        assert_eq!(ProcessId::of(id.pid).unwrap_err().kind(), Kind::NotFound);
    }
}
