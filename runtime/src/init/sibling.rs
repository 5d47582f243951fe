//! Birth by a process in between: it clones the process that goes on, as a child of its own parent.

use crate::error::{Context, Error, Result};
use crate::link::{Link, Message};
use crate::sys::clone::{Alone, Clone3, Side};
use crate::sys::process::exit_now;

/// Comes back in the new process, in new namespaces; the caller ends here. KERNEL: CLONE_PARENT.
pub fn sibling(namespaces: u64, link: &Link) -> Result<()> {
    let born = Clone3 { namespaces, cgroup: None, sibling: true }.call();
    go_on(born.map(|side| matches!(side, Side::Child)), link)
}

/// The same where [`super::seal`] may have loaded the filter: into the PID namespace that was joined.
pub fn last(alone: &Alone, link: &Link) -> Result<()> {
    go_on(alone.sibling(), link)
}

/// ORDER: the new process says itself that it is there: else nobody would know of it, if this one were killed right after the clone.
fn go_on(is_new: nix::Result<bool>, link: &Link) -> Result<()> {
    match is_new.what(|| "clone the process that goes on").map_err(deserted)? {
        true => link.send(&Message::Born(0)),
        false => exit_now(0),
    }
}

/// KERNEL: pid_namespaces(7): where the first process is gone, nobody is born any more.
fn deserted(error: Error) -> Error {
    match error.errno() {
        Some(libc::ENOMEM) => error.cure("the first process of the pid namespace may be gone"),
        Some(libc::EAGAIN) => error.cure("a limit of processes is reached: this takes two for a moment"),
        _ => error,
    }
}
