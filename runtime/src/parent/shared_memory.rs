//! The `/dev/shm` of a running container, as a detached mount.
//!
//! KERNEL: open_tree(2) clones only what is in the caller's own mount namespace. So a process of its own enters the container's,
//! clones, and sends the descriptor back. It runs none of the container's programs and is gone before this returns.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::mount::OpenTreeFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::step::Step;
use crate::sys::clone::{Clone3, Side};
use crate::sys::mount::is_tmpfs;
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

/// What was mounted there for it, and nothing else that it has: a tmpfs, and the root of a mount, which it can't move away.
fn is_memory(place: &OwnedFd, path: &Path) -> Result<()> {
    let what = || format!("look at its {}", path.display());
    let stat = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()).what(what)?;
    if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Error::new(Kind::Denied, format!("{}: nothing is mounted there", what())));
    }
    if !is_tmpfs(place).what(what)? {
        return Err(Error::new(Kind::Denied, format!("{}: it is not a tmpfs", what())));
    }
    Ok(())
}

fn enter_and_clone(process: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    // KERNEL(5.8): a pidfd, which no recycled pid can fool. The root of this process is the container's from here on.
    setns(process, CloneFlags::CLONE_NEWNS).what(|| "join its mount namespace")?;
    let what = || format!("open its {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).what(what)?;
    // No link: it would say what of its own the container lends.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let place = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).what(what)?;
    is_memory(&place, path)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(&place, c"", flags).what(|| format!("clone its {}", path.display()))
}
