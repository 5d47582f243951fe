//! clone3(2): a child straight in its namespaces and its cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

use super::check;

/// KERNEL(5.7); libc lacks it for musl.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What to clone into.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clone3<'a> {
    /// `CLONE_NEW*` of the namespaces to make.
    pub namespaces: u64,
    /// The cgroup to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child becomes a child of the caller's parent.
    pub sibling: bool,
}

/// Which side of the clone this is.
#[derive(Debug)]
pub enum Side {
    /// The caller: the child's pid as seen from here, and its pidfd.
    Parent(Pid, OwnedFd),
    /// The child: a copy of the caller with one thread.
    Child,
}

/// This process was seen to have one thread, and starts no other.
#[derive(Debug)]
pub struct Alone(());

impl Alone {
    /// EINVAL in a process with more than one thread: the child of such a process may not allocate, lock or call into libc, which no
    /// caller could promise.
    pub fn seen() -> nix::Result<Self> {
        // KERNEL: of a process with one thread unshare(CLONE_THREAD) changes nothing; else it is EINVAL.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_THREAD).map(|()| Self(()))
    }

    /// Clones a child of the caller's own parent; whether this is it. By clone(2), since filters refuse clone3, whose flags they can't see.
    pub fn sibling(&self) -> nix::Result<bool> {
        // SAFETY: numbers, and no addresses. Without CLONE_VM the child runs on a copy of this memory, so it can't disturb the caller;
        // the caller has one thread (seen before), so no lock is held by a thread that the child lacks.
        check(unsafe { libc::syscall(libc::SYS_clone, SIBLING, 0, 0, 0, 0) }).map(|pid| pid == 0)
    }
}

/// What [`Alone::sibling`] passes as flags. KERNEL: the exit signal is that of the caller then.
pub const SIBLING: u64 = libc::CLONE_PARENT as u64 | libc::SIGCHLD as u64;

impl Clone3<'_> {
    /// Clones, in a process with one thread.
    pub fn call(&self) -> nix::Result<Side> {
        Alone::seen()?;
        let mut pidfd: RawFd = -1;
        let mut flags = self.namespaces | libc::CLONE_PIDFD as u64;
        let mut exit_signal = libc::SIGCHLD as u64;
        if self.cgroup.is_some() {
            flags |= CLONE_INTO_CGROUP;
        }
        if self.sibling {
            flags |= libc::CLONE_PARENT as u64;
            // The exit signal of a sibling is that of the caller itself; clone3 wants none here.
            exit_signal = 0;
        }
        let args = libc::clone_args {
            flags,
            pidfd: &raw mut pidfd as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: self.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        };
        // SAFETY: without CLONE_VM the child runs on a copy of this memory, so it can't disturb the caller; the caller has one
        // thread (seen above), so no lock is held by a thread that the child lacks. `args` and `pidfd` outlive the call.
        let pid =
            check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of_val(&args)) })?;
        if pid == 0 {
            return Ok(Side::Child);
        }
        // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new descriptor that nobody else owns.
        Ok(Side::Parent(Pid::from_raw(pid as i32), unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }
}
