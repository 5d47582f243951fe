//! Who is whose child: reaps what has ended, and says of whom it was. It signals nobody and judges nothing.
//!
//! A process that `rt` has born comes to us when `rt` leaves, perhaps as a zombie, and only then do we read its pid. So while
//! an `rt` that bears is under way, strangers are left unreaped: their pids can't be given away, and no end is lost. Nor are those
//! reaped whose namespaces it joins by their pids, though their ends are told.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid, waitpid};
use tokio::sync::oneshot;

use crate::pod::Target;

/// The children of this process.
#[derive(Debug, Default)]
pub struct Children {
    programs: BTreeMap<u32, oneshot::Sender<i32>>,
    processes: BTreeMap<u32, Target>,
    births: usize,
    /// Whose numbers have to stay theirs, by the births that need it.
    kept: BTreeMap<u32, usize>,
}

impl Children {
    /// A program that was spawned; the receiver gets its exit code, 128 + n after a signal.
    pub fn program(&mut self, pid: u32) -> oneshot::Receiver<i32> {
        let (end, ended) = oneshot::channel();
        self.programs.insert(pid, end);
        ended
    }

    /// A program begins that will leave a child to us, and that finds these by their numbers.
    pub fn birth_begins(&mut self, joins: &BTreeSet<u32>) {
        self.births += 1;
        for pid in joins {
            *self.kept.entry(*pid).or_default() += 1;
        }
    }

    /// It is over, with that child or without.
    pub fn birth_over(&mut self, born: Option<(u32, Target)>, joins: &BTreeSet<u32>) {
        self.births = self.births.saturating_sub(1);
        for pid in joins {
            if let Some(births) = self.kept.get_mut(pid) {
                *births -= 1;
            }
        }
        self.kept.retain(|_, births| *births > 0);
        self.processes.extend(born);
    }

    /// Nobody wants to know of its end any more: it is reaped as a stranger.
    pub fn disown(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Reaps all that may be reaped. Gives the processes of the pod that have ended, with their exit codes; programs are told.
    pub fn reap(&mut self) -> Vec<(Target, i32)> {
        let mut programs = Vec::new();
        let mut ended = Vec::new();
        if self.births == 0 {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                self.sort(number(pid), exit_code(status), &mut programs, &mut ended);
            }
        } else {
            let known: Vec<u32> = self.programs.keys().chain(self.processes.keys()).copied().collect();
            for pid in known {
                let Some(child) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
                let code = if self.kept.contains_key(&pid) { left_unreaped(child) } else { reaped(child) };
                if let Some(code) = code {
                    self.sort(pid, code, &mut programs, &mut ended);
                }
            }
        }
        for (end, code) in programs {
            let _ = end.send(code); // whoever waited may have given up
        }
        ended
    }

    fn sort(
        &mut self,
        pid: u32,
        code: i32,
        programs: &mut Vec<(oneshot::Sender<i32>, i32)>,
        ended: &mut Vec<(Target, i32)>,
    ) {
        if let Some(end) = self.programs.remove(&pid) {
            programs.push((end, code));
        } else if let Some(target) = self.processes.remove(&pid) {
            ended.push((target, code));
        }
    }
}

/// Its exit code, if it has ended: its number may be another's now.
fn reaped(child: Pid) -> Option<i32> {
    let (_, status) = waitpid(Some(child), WaitOptions::NOHANG).ok()??;
    Some(exit_code(status))
}

/// Its exit code, if it has ended: it keeps its number until it is reaped as a stranger.
fn left_unreaped(child: Pid) -> Option<i32> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(child), look).ok()??;
    Some(status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255))
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}
