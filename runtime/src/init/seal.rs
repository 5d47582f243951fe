//! no_new_privs and the system call filter.
//!
//! Whoever may trace this process (CAP_SYS_PTRACE, and its PID namespace or one above) makes by it what calls it may make. So where somebody
//! can come to see it before it executes the program, in a PID namespace of others, while it waits for `start`, or as a startContainer
//! hook, it is under its filter by then, and has no capability that is not the program's. That takes a filter that lets through what is
//! left to do: engines' profiles do. Else the filter is loaded last of all, since a profile need not allow more than execve; where there
//! are startContainer hooks, before those, whatever becomes of them: a hook is a program of the container's, and has no more than that.

use super::{Birth, Start, capabilities};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Task;
use crate::plan::process::NPROC;
use crate::plan::seccomp::{Arch, Call, to_bytes};
use crate::spec::Hook;
use crate::sys::clone::SIBLING;
use crate::sys::process;

/// As far as it is possible now; whether that was all.
pub fn early(birth: &Birth<'_>) -> Result<bool> {
    if !birth.seen && !matches!(birth.start, Start::Fifo(_)) && start_hooks(birth).is_empty() {
        return Ok(false);
    }
    let task = birth.task;
    no_new_privileges(task)?;
    let fits = |filter: &crate::plan::seccomp::Filter| {
        left_to_do(birth).iter().all(|call| filter.lets_through(Arch::NATIVE, call))
    };
    if !task.seccomp.as_ref().is_none_or(fits) {
        return Ok(false);
    }
    filter(task).map(|()| true)
}

/// The programs of the container that run before its own.
pub fn start_hooks<'a>(birth: &Birth<'a>) -> &'a [Hook] {
    birth.home.as_ref().map_or(&[], |home| &home.hooks.start_container)
}

/// Of a startContainer hook: the filter may be why.
pub fn explained(error: Error, task: &Task) -> Error {
    match error.errno() {
        Some(errno) if task.seccomp.is_some() && errno != libc::ENOENT => error.cure(
            "the hook runs under the container's seccomp profile, which must allow what starting a program takes",
        ),
        _ => error,
    }
}

/// From here on only execve is left to do, or startContainer hooks and execve.
pub fn last(task: &Task) -> Result<()> {
    no_new_privileges(task)?;
    filter(task)
}

fn no_new_privileges(task: &Task) -> Result<()> {
    if task.process.no_new_privileges {
        process::no_new_privileges().what(|| "set no_new_privs")?;
    }
    Ok(())
}

fn filter(task: &Task) -> Result<()> {
    let Some(filter) = &task.seccomp else { return Ok(()) };
    crate::sys::seccomp::load(&to_bytes(&filter.program), filter.flags).map_err(|errno| {
        let error = Error::os(errno as i32, "load the seccomp filter");
        match errno {
            nix::errno::Errno::EACCES => error
                .with_kind(Kind::Denied)
                .cure("without noNewPrivileges that needs CAP_SYS_ADMIN, which this process lacks"),
            _ => error,
        }
    })?;
    capabilities::drop_admin(task)
}

/// The calls from here to execve, in `init/mod.rs` and what it uses.
fn left_to_do(birth: &Birth<'_>) -> Vec<Call> {
    let task = birth.task;
    let mut calls = Vec::with_capacity(32);
    calls.extend(ALWAYS.map(Call::any));
    calls.extend(memory());
    if capabilities::needs_admin(task) {
        calls.push(Call::any("capset"));
    }
    if birth.seen {
        let zero = Some(0);
        calls.push(Call::with("clone", [Some(SIBLING), zero, zero, zero, zero]));
        calls.extend(BORN.map(Call::any));
        if task.process.rlimits.iter().any(|(number, ..)| *number == NPROC) {
            calls.push(Call::with("prlimit64", [zero, Some(NPROC.into()), None, zero]));
        }
        if task.process.terminal.is_some() {
            calls.push(Call::with("ioctl", [zero, Some(TIOCSCTTY)]));
        }
    }
    if task.process.terminal.is_some() {
        // Our copy of the terminal, once it is sent.
        calls.push(Call::any("close"));
    }
    if let Start::Fifo(_) = birth.start {
        calls.extend(AT_THE_FIFO.map(Call::any));
        calls.push(mask());
    }
    if !start_hooks(birth).is_empty() {
        calls.extend(FOR_HOOKS.map(Call::any));
        let started = libc::CLONE_VM as u64 | libc::CLONE_VFORK as u64 | libc::SIGCHLD as u64;
        calls.push(Call::with("clone", [Some(started)]));
        calls.push(mask());
    }
    calls
}

/// Of which libraries disagree about the type.
const TIOCSCTTY: u64 = 0x540e;

/// The link, the program, and the end where that fails.
const ALWAYS: [&str; 4] = ["sendmsg", "recvmsg", "execve", "exit_group"];

/// Who it is, for the message that says that it is there; a session.
const BORN: [&str; 4] = ["getpid", "getuid", "getgid", "setsid"];

const AT_THE_FIFO: [&str; 6] = ["signalfd4", "poll", "ppoll", "read", "write", "close"];

const FOR_HOOKS: [&str; 17] = [
    "memfd_create",
    "write",
    "lseek",
    "fcntl",
    "pipe2",
    "dup2",
    "dup3",
    "rt_sigaction",
    "read",
    "close",
    "wait4",
    "waitid",
    "pidfd_open",
    "poll",
    "ppoll",
    "kill",
    "fstat",
];

fn mask() -> Call {
    Call::with("rt_sigprocmask", [Some(libc::SIG_SETMASK as u64)])
}

/// What an allocation may take.
fn memory() -> [Call; 4] {
    let access = Some(libc::PROT_READ as u64 | libc::PROT_WRITE as u64);
    let kind = Some(libc::MAP_PRIVATE as u64 | libc::MAP_ANONYMOUS as u64);
    [
        Call::any("brk"),
        Call::with("mmap", [Some(0), None, access, kind, None, Some(0)]),
        Call::any("munmap"),
        Call::with("mprotect", [None, None, access]),
    ]
}
