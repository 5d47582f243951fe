//! The `/dev/shm` of a running container, as a detached mount.
//!
//! KERNEL: open_tree(2) clones only what is in the caller's own mount namespace. So a process of its own enters the container's,
//! clones, and sends the descriptor back. It runs none of the container's programs and is gone before this returns.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::OpenTreeFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::step::Step;
use crate::sys::clone::{Clone3, Side};
use crate::sys::process::exit_now;

/// Clones the mount at `path` in the mount namespace of a process.
pub fn clone_from(process: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let (ours, theirs) = Link::pair()?;
    let born = Clone3::default().call().what(|| "clone a process that enters the mount namespace")?;
    let Side::Parent(pid, _pidfd) = born else {
        drop(ours);
        let said = match enter_and_clone(process, path) {
            Ok(tree) => Message::Ready(Some(tree)),
            Err(error) => Message::Failed(Step::Prepare as u8, error),
        };
        exit_now(i32::from(theirs.send(&said).is_err()));
    };
    drop(theirs);
    let said = ours.receive();
    nix::sys::wait::waitpid(pid, None).what(|| "wait for the process that entered the mount namespace")?;
    match said? {
        Some(Message::Ready(Some(tree))) => Ok(tree),
        Some(Message::Failed(_, error)) => Err(error),
        _ => Err(Error::new(Kind::Internal, "the process that entered the mount namespace died")),
    }
}

fn enter_and_clone(process: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    // KERNEL(5.8): a pidfd, which no recycled pid can fool. The root of this process is the container's from here on.
    setns(process, CloneFlags::CLONE_NEWNS).what(|| "join its mount namespace")?;
    let what = || format!("open its {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).what(what)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let place = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).what(what)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(&place, c"", flags).what(|| format!("clone its {}", path.display()))
}
