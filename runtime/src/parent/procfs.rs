//! The procfs of a PID namespace that others live in.
//!
//! Up to Linux 6.17 a procfs shows the PID namespace of the process that opens it, which others there can see, and into which nobody comes
//! but by birth. So there a process makes itself a user namespace and a root with nothing in it, lets go of the host's namespaces and of all
//! descriptors, comes under a filter, and clones another into that PID namespace. That one can do nothing but open a filesystem that is not
//! made yet, and send it here: whoever traces it has no right over anything but its empty room.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;
use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};

use super::filesystem::Draft;
use crate::child::Child;
use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::plan::capabilities::SYS_ADMIN;
use crate::plan::mount_options::Options;
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::seccomp::{self, Arch};
use crate::spec::{Seccomp, SyscallRule};
use crate::state;
use crate::step::{Step, lacks};
use crate::sys::clone::{Alone, Clone3, Side};
use crate::sys::mount::{Depth, MountAttr, is_procfs, mount_setattr, pivot};
use crate::sys::process::{CapSets, capset, close_all_but, exit_now, no_new_privileges};

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
    let draft = opened_inside(pids, nearby)?;
    draft.source(c"proc")?;
    draft.options(c"proc", options)?;
    let tree = draft.mount(options.attributes.set)?;
    if !is_procfs(&tree).what(|| "look at the procfs")? {
        return Err(Error::new(Kind::Denied, "what was opened in the pid namespace is not a procfs"));
    }
    Ok(tree)
}

/// A procfs being made, which shows this PID namespace.
fn opened_inside(pids: BorrowedFd<'_>, nearby: Nearby<'_>) -> Result<Draft> {
    let (ours, theirs) = Link::pair()?;
    // Who has no user id in his own namespace can't say who he is: it is asked for beforehand.
    ours.ask_who(true)?;
    let before = state::children()?;
    let born = Clone3::default().call().what(|| "clone a process that enters the pid namespace")?;
    let Side::Parent(pid, pidfd) = born else {
        drop(ours);
        let opened = enter(pids, nearby, &theirs).and_then(|()| Draft::open(c"proc"));
        let said = match opened {
            Ok(draft) => Message::Opened(draft.into(), 0),
            Err(error) => Message::Failed(Step::Prepare as u8, error),
        };
        exit_now(i32::from(theirs.send(&said).is_err()));
    };
    drop(theirs);
    let mut child = Child::new((pid, pidfd), ours).in_between(before).among_others(None);
    match child.receive()? {
        Some(Message::Opened(context, sender)) => {
            // ORDER: looked at before it is used: who traces the process may have taken its end of the link.
            child.becomes(Pid::from_raw(sender))?;
            Ok(Draft::from(context))
        }
        Some(Message::Failed(_, error)) => Err(error),
        _ => Err(Error::new(Kind::Internal, "the process that opens the procfs died")),
    }
}

/// Comes back in the PID namespace. KERNEL: a procfs is opened by who may mount in his own mount namespace, and created later, by us.
fn enter(pids: BorrowedFd<'_>, nearby: Nearby<'_>, link: &Link) -> Result<()> {
    setns(pids, CloneFlags::CLONE_NEWPID).what(|| "join the pid namespace")?;
    leave_the_host(nearby)?;
    empty_root().what(|| "make an empty root")?;
    crate::sys::start::forget_arguments_and_environment();
    close_all_but(0, &[link.as_fd()]).what(|| "close what is the host's")?;
    let rights = CapSets { effective: SYS_ADMIN, permitted: SYS_ADMIN, inheritable: 0 };
    capset(rights).what(|| "drop capabilities")?;
    let alone = Alone::seen().what(|| "look for threads")?;
    confine()?;
    if !alone.sibling().what(|| "clone into the pid namespace")? {
        exit_now(0);
    }
    Ok(())
}

/// No namespace stays the host's that is not the host's for the container, and no right is one over the host.
fn leave_the_host(nearby: Nearby<'_>) -> Result<()> {
    const KINDS: [Namespace; 4] = [Namespace::Network, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup];
    for (_, namespace) in nearby.joined.iter().filter(|(kind, _)| KINDS.contains(kind)) {
        setns(namespace, CloneFlags::empty()).what(|| "leave the host's namespaces")?;
    }
    let kept = nearby.made.iter().filter(|kind| KINDS.contains(kind));
    let made = kept.fold(0, |flags, kind| flags | kind.flag());
    let own = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    unshare(own | CloneFlags::from_bits_retain(made as i32))
        .what(|| "make a user namespace for the process that opens the procfs")
        .map_err(|error| match error.errno() {
            Some(libc::ENOSPC | libc::EUSERS | libc::EINVAL) => error.cure(
                "a shared PID namespace needs one before Linux 6.18: raise /proc/sys/user/max_user_namespaces",
            ),
            _ => error,
        })
}

/// Whoever traces the process in there makes it open another filesystem, but can't say of what, which is ours to do.
fn confine() -> Result<()> {
    // The rest is what an allocation, and the link, may take.
    const CALLS: [&str; 8] =
        ["fsopen", "sendmsg", "clone", "exit_group", "brk", "mmap", "munmap", "mprotect"];
    let rule = SyscallRule {
        names: CALLS.map(str::to_owned).to_vec().into(),
        action: "SCMP_ACT_ALLOW".to_owned(),
        ..SyscallRule::default()
    };
    let profile = Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        syscalls: vec![rule].into(),
        ..Seccomp::default()
    };
    let Some(filter) = seccomp::compile(&profile, Arch::NATIVE)? else { return Ok(()) };
    no_new_privileges()
        .and_then(|()| crate::sys::seccomp::load(&seccomp::to_bytes(&filter.program), filter.flags))
        .what(|| "load a filter for the process that opens the procfs")
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
    pivot()
}
