//! The procfs of a PID namespace that others live in.
//!
//! Up to Linux 6.17 a procfs shows the PID namespace of the process that makes it, which others there can see, and into which nobody comes
//! but by birth. So there a process makes itself a root with nothing in it, lets go of the host's namespaces, of all descriptors and of all
//! rights but the one to mount, and clones another into that PID namespace, which makes the filesystem and sends it here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags};

use super::filesystem::{self, Draft};
use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::plan::capabilities::SYS_ADMIN;
use crate::plan::mount_options::Options;
use crate::plan::namespaces::Kind as Namespace;
use crate::privilege::in_user_namespace;
use crate::step::{Step, lacks};
use crate::sys::clone::{Clone3, Side};
use crate::sys::mount::{Depth, MountAttr, mount_setattr};
use crate::sys::process::{CapSets, capset, close_all_but, exit_now};

/// What the container's processes will find.
#[derive(Debug, Clone, Copy)]
pub struct Nearby<'a> {
    /// The namespaces that it joins, its PID namespace among them.
    pub joined: &'a [(Namespace, OwnedFd)],
    /// Those that it makes.
    pub made: &'a [Namespace],
}

/// Makes it, attached nowhere; none where the container joins no PID namespace.
pub fn make(nearby: Nearby<'_>, options: &Options) -> Result<Option<OwnedFd>> {
    let Some((_, pids)) = nearby.joined.iter().find(|(kind, _)| *kind == Namespace::Pid) else {
        return Ok(None);
    };
    let draft = Draft::open(c"proc")?;
    // KERNEL(6.18): it may be named.
    if !lacks("procfs-of-a-pid-namespace") && draft.directory(c"pidns", pids).is_ok() {
        draft.source(c"proc")?;
        draft.options(c"proc", options)?;
        return draft.mount(options.attributes.set).map(Some);
    }
    by_a_process(pids.as_fd(), nearby, options).map(Some)
}

fn by_a_process(pids: BorrowedFd<'_>, nearby: Nearby<'_>, options: &Options) -> Result<OwnedFd> {
    let (ours, theirs) = Link::pair()?;
    let born = Clone3 { namespaces: libc::CLONE_NEWNS as u64, ..Clone3::default() }.call();
    let Side::Parent(pid, _pidfd) = born.what(|| "clone a process that enters the pid namespace")? else {
        drop(ours);
        let done = in_an_empty_room(pids, nearby, options, &theirs);
        exit_now(i32::from(done.map_err(|error| tell(&theirs, error)).is_err()));
    };
    drop(theirs);
    let said = ours.receive();
    waitpid(pid, None).what(|| "wait for the process that entered the pid namespace")?;
    match said? {
        Some(Message::Ready(Some(tree))) => Ok(tree),
        Some(Message::Failed(_, error)) => Err(error),
        _ => Err(Error::new(Kind::Internal, "the process that makes the procfs died")),
    }
}

fn tell(link: &Link, error: Error) {
    let _ = link.send(&Message::Failed(Step::Prepare as u8, error));
}

fn in_an_empty_room(pids: BorrowedFd<'_>, nearby: Nearby<'_>, options: &Options, link: &Link) -> Result<()> {
    setns(pids, CloneFlags::CLONE_NEWPID).what(|| "join the pid namespace")?;
    away_from_the_host(nearby).what(|| "leave the host's namespaces")?;
    // KERNEL: in a user namespace a procfs may be mounted only by who sees another one; but from there, nobody in a container can look
    // into a process that is above.
    if !in_user_namespace() {
        empty_root().what(|| "make an empty root")?;
    }
    crate::sys::start::forget_environment();
    close_all_but(0, &[link.as_fd()]).what(|| "close what is the host's")?;
    let rights = CapSets { effective: SYS_ADMIN, permitted: SYS_ADMIN, inheritable: 0 };
    capset(rights).what(|| "drop capabilities")?;
    match Clone3::default().call().what(|| "clone into the pid namespace")? {
        Side::Child => {
            let made = filesystem::create(c"proc", c"proc", options, None);
            let sent = made.and_then(|(tree, _draft)| link.send(&Message::Ready(Some(tree))));
            exit_now(i32::from(sent.map_err(|error| tell(link, error)).is_err()))
        }
        Side::Parent(pid, _pidfd) => {
            waitpid(pid, None).map(drop).what(|| "wait for the process in the pid namespace")
        }
    }
}

/// No namespace stays the host's that is not the host's for the container.
fn away_from_the_host(nearby: Nearby<'_>) -> nix::Result<()> {
    const KINDS: [Namespace; 4] = [Namespace::Network, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup];
    for (_, namespace) in nearby.joined.iter().filter(|(kind, _)| KINDS.contains(kind)) {
        setns(namespace, CloneFlags::empty())?;
    }
    let made =
        nearby.made.iter().filter(|kind| KINDS.contains(kind)).fold(0, |flags, kind| flags | kind.flag());
    unshare(CloneFlags::from_bits_retain(made as i32))
}

/// This process's mount namespace has one empty, read-only directory from here on.
fn empty_root() -> rustix::io::Result<()> {
    let change = MountAttr { propagation: libc::MS_PRIVATE, ..Default::default() };
    mount_setattr(CWD, c"/", Depth::Tree, change)
        .map_err(|errno| rustix::io::Errno::from_raw_os_error(errno as i32))?;
    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let room =
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    rustix::mount::move_mount(&room, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&room)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)
}
