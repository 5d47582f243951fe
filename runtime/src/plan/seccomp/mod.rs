//! `linux.seccomp` → a filter program, as runc and libseccomp make one, in microseconds instead of milliseconds.
//!
//! Profile → `decisions` (what becomes of each system call of each architecture) → `program` (a tree over intervals of numbers;
//! conditions on arguments by seccompiler). Pure; `sys::seccomp` loads [`to_bytes`] of the result. SPEC: config-linux.md#seccomp
//!
//! As runc with libseccomp 2.5.4, and held against it by a test:
//! - The native architecture is always in; calls of one that is not listed kill the thread, and so do x32's when only x86_64 is.
//! - Names that nobody knows are ignored, and so are rules that only repeat the default action.
//! - Arguments have 64 bits on 64-bit architectures, and 32 on the others and on x32.
//! - On 32-bit x86, rules for socket and System V IPC calls hold for `socketcall` and `ipc` too, by their first argument.
//! - Calls newer than the newest that the profile names return ENOSYS: see `decisions::decide`.
//! - No `defaultAction` and no `syscalls`: no filter.
//!
//! Otherwise than runc: an errno for an action that takes none is an error (the spec's MUST), and so is an errno that doesn't fit, which
//! runc cuts; TSYNC is passed on to the kernel; the tables go to Linux 6.17, libseccomp 2.5.4's to 5.17, so that "newest" can be later.
//! SCMP_ACT_NOTIFY is not supported yet.

mod arch;
mod cases;
mod decisions;
mod insn;
mod numbers;
mod passage;
mod program;
mod tree;
mod words;

use serde::Serialize;

pub use arch::Arch;
pub use insn::{Insn, from_bytes, to_bytes};
pub use passage::Call;
pub use words::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};

use crate::error::{Error, Result};
use crate::spec::Seccomp;

/// What seccomp(2) is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// The program, 4096 instructions at most.
    pub program: Vec<Insn>,
    /// SECCOMP_FILTER_FLAG_*
    pub flags: u32,
    /// Names of system calls that are not known and were ignored: for a debug message.
    pub ignored: Vec<String>,
}

/// The filter for a profile on a kernel for `native`; `None`: the profile asks for none.
pub fn compile(spec: &Seccomp, native: Arch) -> Result<Option<Filter>> {
    if spec.default_action.is_empty() && spec.syscalls.is_empty() {
        return Ok(None);
    }
    if spec.listener_metadata.is_some() && spec.listener_path.as_deref().unwrap_or_default().is_empty() {
        return Err(Error::invalid("linux.seccomp.listenerMetadata: is set without listenerPath"));
    }
    let flags = words::flags(spec.flags.as_deref())?;
    let listed = arch::listed(spec, native)?;
    let mut archs = listed.clone();
    if !archs.contains(&native) {
        archs.push(native);
    }
    let decisions = decisions::decide(spec, &archs, &listed)?;
    let program = program::assemble(&decisions)?;
    let ignored = decisions.unknown.iter().map(|&name| name.to_owned()).collect();
    Ok(Some(Filter { program, flags, ignored }))
}

/// The error for what no program of the kernel's size can hold.
fn too_large() -> Error {
    Error::invalid("linux.seccomp: the rules make a program of more than 4096 instructions")
        .cure("the kernel takes no larger one; merge rules with conditions")
}
