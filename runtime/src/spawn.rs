//! Birth of init: one clone3 straight into its namespaces and its cgroup.
//!
//! Which flags ride on the clone depends on the plan; this is the only place that knows why:
//! - Clock offsets can only be written before anybody is in the time namespace: the parent makes that one, and comes back.
//! - New namespaces must belong to the user namespace. If that is joined, or if it is new while others are joined, a process in
//!   between joins everything with the host's rights and clones init as its own sibling.
//! - In a PID namespace that others live in, init would be seen with the host's root, descriptors and rights. So it is born beside
//!   that namespace, takes all steps, and last of all clones the process that goes on as its own sibling in there (`init/mod.rs`).
//!
//! It does not know what init does, nor what the parent does while it waits.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

use crate::child::{self, Child};
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::init::{Door, When, leave_groups, sibling};
use crate::link::{Link, Message};
use crate::plan::Task;
use crate::plan::namespaces::{Join, Kind, Namespaces};
use crate::state::{self, NamespaceId, Origin};
use crate::step::Step;
use crate::sys::clone::{Clone3, Side};
use crate::sys::process::{exit_now, namespace_type, open_namespace, owner_namespace, parent_namespace};

/// Where init is born.
#[derive(Debug)]
pub struct Cradle<'a> {
    /// The cgroup, where there is one before there is a process.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Namespaces to join, opened and checked: see [`open_joined`].
    pub joined: &'a [(Kind, OwnedFd)],
    /// Whether init runs programs that have the host's root: see [`hooks_stay_outside`].
    pub hooks: bool,
}

impl Cradle<'_> {
    /// When init goes through the door to a namespace. R2: only into a PID namespace where it runs nothing that has the host's root.
    fn when(&self, kind: Kind) -> When {
        if self.hooks && kind == Kind::Pid { When::AfterHooks } else { When::First }
    }
}

/// createContainer hooks are programs of the host: in a mount namespace of others they would be files of theirs.
///
/// With them the PID namespace is joined from within the user namespace, if there is one; that must own it. KERNEL: pidns_install(): by
/// who has CAP_SYS_ADMIN over it.
pub fn hooks_stay_outside(namespaces: &Namespaces, joined: &[(Kind, OwnedFd)]) -> Result<()> {
    let named = |wanted| joined.iter().find(|(kind, _)| *kind == wanted).map(|(_, fd)| fd);
    if let Some(mounts) = named(Kind::Mount) {
        let what = || "look at the mount namespace to join";
        let ours = rustix::fs::stat("/proc/self/ns/mnt").what(what)?;
        if NamespaceId::of(mounts).what(what)? != NamespaceId::from(&ours) {
            let what = "run createContainer hooks in a mount namespace that is joined: their paths lead to files of whoever made it";
            return Err(Error::unsupported(what)
                .cure("make them createRuntime hooks, take them out (devices of CDI bring some), or make a new mount namespace"));
        }
    }
    let Some(pids) = named(Kind::Pid).filter(|_| namespaces.has(Kind::User)) else { return Ok(()) };
    let owned = match named(Kind::User) {
        Some(users) => is_owned_by(pids, users)?,
        None => false,
    };
    if owned {
        return Ok(());
    }
    let what = "run createContainer hooks outside of the pid namespace that is joined: it belongs to another user namespace than the container's";
    Err(Error::unsupported(what)
        .cure("join that user namespace too, or take out the hooks (devices of CDI bring some)"))
}

/// Or by one below it.
fn is_owned_by(pids: &OwnedFd, users: &OwnedFd) -> Result<bool> {
    let what = || "look who owns the pid namespace to join";
    let seen = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).what(what);
    let wanted = seen(users)?;
    // KERNEL: EPERM above the user namespace of the caller.
    let mut at = owner_namespace(pids.as_fd());
    while let Ok(owner) = at {
        if seen(&owner)? == wanted {
            return Ok(true);
        }
        at = parent_namespace(owner.as_fd());
    }
    Ok(false)
}

/// Opens the namespaces to join and checks what they are, before anything is made.
pub fn open_joined(namespaces: &Namespaces) -> Result<Vec<(Kind, OwnedFd)>> {
    namespaces.join.iter().map(|join| open_one(join).map(|fd| (join.kind, fd))).collect()
}

fn open_one(join: &Join) -> Result<OwnedFd> {
    let what = || format!("join the {} namespace {}", join.kind.name(), join.path.display());
    let file = open_namespace(&join.path).what(what).map_err(|error| match error.errno() {
        Some(libc::ENOENT) => error.cure("the process or the bind mount that held it is gone"),
        _ => error,
    })?;
    let none = || Error::invalid(format!("{}: it is not a namespace", what()));
    let file = file.ok_or_else(none)?;
    let flag = namespace_type(file.as_fd()).map_err(|_| none())?;
    if flag != join.kind.flag() {
        let other = Kind::ALL.into_iter().find(|kind| kind.flag() == flag).map_or("unknown", Kind::name);
        return Err(Error::invalid(format!("{}: it is of type {other}", what())));
    }
    Ok(file)
}

/// Clones. `init` runs in the child with its end of the link and the namespaces that it still has to join, and never returns.
pub fn spawn(task: &Task, cradle: &Cradle<'_>, init: impl Fn(Link, Vec<Door>)) -> Result<Child> {
    let namespaces = &task.namespaces;
    let new = namespaces
        .new
        .iter()
        .filter(|kind| !by_parent(task, **kind))
        .fold(0, |flags, kind| flags | kind.flag());
    let foreign = namespaces.joins(Kind::User) || namespaces.makes(Kind::User) && !cradle.joined.is_empty();
    let birth = match (foreign, namespaces.joins(Kind::Pid)) {
        (false, false) => Birth::Direct,
        (false, true) => Birth::Beside,
        (true, false) => Birth::Sibling,
        (true, true) => Birth::BesideForeign,
    };
    let away = Away::go_for_offsets(task)?;
    let child = bear(birth, (task, cradle, new), init);
    away.come_back()?;
    let mut child = child?;
    match birth {
        Birth::Sibling => drop(child.born()?),
        // ORDER: its namespaces are there before anybody maps its ids.
        Birth::BesideForeign => match child.receive()? {
            Some(Message::AtMaps) => {}
            Some(Message::Failed(_, error)) => return Err(error),
            _ => return Err(child::died()),
        },
        Birth::Direct | Birth::Beside => {}
    }
    Ok(child)
}

/// The ways into the world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Birth {
    /// In its new namespaces at once.
    Direct,
    /// The same, but for the PID namespace, which it enters last of all.
    Beside,
    /// By a process in between that has joined all namespaces. KERNEL: CLONE_PARENT.
    Sibling,
    /// In no namespace; it joins all with the host's rights, makes the new ones, and enters the PID namespace last of all.
    BesideForeign,
}

fn bear(
    birth: Birth,
    (task, cradle, new): (&Task, &Cradle<'_>, u64),
    init: impl Fn(Link, Vec<Door>),
) -> Result<Child> {
    let (ours, theirs) = Link::pair()?;
    let in_between = birth != Birth::Direct;
    if birth == Birth::Sibling {
        // Nothing is sent to it before it has said that it is there.
        ours.ask_who(true)?;
    }
    if task.process.terminal.is_none() {
        ours.refuse_descriptors()?;
    }
    let at_once = if matches!(birth, Birth::Direct | Birth::Beside) { new } else { 0 };
    let before = if in_between { state::children()? } else { Vec::new() };
    let born = Clone3 { namespaces: at_once, cgroup: cradle.cgroup, sibling: false }.call();
    if let Ok(Side::Child) = born {
        drop(ours);
        let made = match birth {
            Birth::Direct | Birth::Beside => Ok(doors(cradle, |_| true)),
            Birth::Sibling => enter(task, cradle).and_then(|()| sibling(new, &theirs)).map(|()| Vec::new()),
            Birth::BesideForeign => enter(task, cradle)
                .and_then(|()| make(new))
                .and_then(|()| theirs.send(&Message::AtMaps))
                .map(|()| doors(cradle, |when| when == When::AfterHooks)),
        };
        match made {
            Ok(doors) => init(theirs, doors),
            Err(error) => drop(theirs.send(&Message::Failed(Step::Clone as u8, error))),
        }
        exit_now(1);
    }
    drop(theirs);
    match born
        .what(|| format!("clone into new namespaces ({})", names(&task.namespaces.new)))
        .map_err(cloning)?
    {
        Side::Parent(pid, pidfd) => {
            let child = Child::new((pid, pidfd), ours);
            let child = if in_between { child.in_between(before) } else { child };
            Ok(if matches!(birth, Birth::Beside | Birth::BesideForeign) { child.seen() } else { child })
        }
        Side::Child => Err(Error::new(ErrorKind::Internal, "the child came back")),
    }
}

/// Clones into the namespaces of a process that runs: `which` of them. In its PID namespace it is only [`Child::born`]. `cgroup`: where
/// it is born; `paused`: the container's cgroup, in which its time stands still while that is frozen. `origin`: where that process has to be. `terminal`: whether it
/// sends one.
pub fn spawn_beside(
    (beside, origin): (OwnedFd, Origin),
    which: CloneFlags,
    (cgroup, paused, terminal): (Option<BorrowedFd<'_>>, Option<PathBuf>, bool),
    init: impl Fn(Link, Vec<Door>),
) -> Result<Child> {
    let doors = doors_of(beside, which, origin)?;
    let (ours, theirs) = Link::pair()?;
    let in_between = which.contains(CloneFlags::CLONE_NEWPID);
    if !terminal {
        ours.refuse_descriptors()?;
    }
    let before = if in_between { state::children()? } else { Vec::new() };
    let born = Clone3 { namespaces: 0, cgroup, sibling: false }.call();
    if let Ok(Side::Child) = born {
        drop(ours);
        init(theirs, doors);
        exit_now(1);
    }
    drop(theirs);
    match born.what(|| "clone into the container's cgroup").map_err(cloning)? {
        Side::Parent(pid, pidfd) => {
            let child = Child::new((pid, pidfd), ours).among_others(paused);
            Ok(if in_between { child.in_between(before) } else { child })
        }
        Side::Child => Err(Error::new(ErrorKind::Internal, "the child came back")),
    }
}

/// Joined with the host's rights as long as these are there: the user namespace last, which is held before.
fn doors_of(beside: OwnedFd, which: CloneFlags, origin: Origin) -> Result<Vec<Door>> {
    let user = which & CloneFlags::CLONE_NEWUSER;
    let last = if user.is_empty() { None } else { Some(origin.user()?) };
    let when = When::First;
    let mut doors = vec![Door { fd: beside, which: which - user, origin: Some(origin), when }];
    doors.retain(|door| !door.which.is_empty());
    doors.extend(last.map(|fd| Door { fd, which: user, origin: None, when }));
    Ok(doors)
}

fn make(new: u64) -> Result<()> {
    unshare(CloneFlags::from_bits_retain(new as i32)).what(|| "make new namespaces").map_err(cloning)
}

/// By a process in between, with the host's rights.
fn enter(task: &Task, cradle: &Cradle<'_>) -> Result<()> {
    leave_groups(task)?;
    join_all(cradle)
}

fn join_all(cradle: &Cradle<'_>) -> Result<()> {
    let now = |kind: Kind| cradle.when(kind) == When::First;
    let user_last = cradle.joined.iter().filter(|(kind, _)| *kind != Kind::User && now(*kind));
    for (kind, namespace) in user_last.chain(cradle.joined.iter().filter(|(kind, _)| *kind == Kind::User)) {
        setns(namespace, CloneFlags::empty()).what(|| format!("join the {} namespace", kind.name()))?;
    }
    Ok(())
}

fn doors(cradle: &Cradle<'_>, left: impl Fn(When) -> bool) -> Vec<Door> {
    let all = cradle.joined.iter().map(|(kind, fd)| (cradle.when(*kind), fd)).filter(|(when, _)| left(*when));
    let opened = all.filter_map(|(when, fd)| Some((when, rustix::io::fcntl_dupfd_cloexec(fd, 3).ok()?)));
    opened.map(|(when, fd)| Door { fd, which: CloneFlags::empty(), origin: None, when }).collect()
}

/// Whether the parent makes this namespace, because init must find it finished.
fn by_parent(task: &Task, kind: Kind) -> bool {
    kind == Kind::Time && task.time_offsets.is_some()
}

/// The parent's stay in other namespaces, for the length of a clone.
struct Away {
    back: Vec<File>,
}

impl Away {
    fn go_for_offsets(task: &Task) -> Result<Self> {
        let mut back = Vec::new();
        if let Some(offsets) = &task.time_offsets {
            back.push(own("time")?);
            unshare(CloneFlags::from_bits_retain(Kind::Time.flag() as i32))
                .what(|| "make a time namespace")?;
            std::fs::write("/proc/self/timens_offsets", offsets)
                .what(|| format!("set the clock offsets {offsets:?}"))?;
        }
        Ok(Self { back })
    }

    fn come_back(self) -> Result<()> {
        for namespace in self.back {
            setns(&namespace, CloneFlags::empty()).what(|| "come back to the runtime's own namespace")?;
        }
        Ok(())
    }
}

fn own(name: &str) -> Result<File> {
    let path = Path::new("/proc/self/ns").join(name);
    File::open(&path).what(|| format!("open {}", path.display()))
}

fn names(kinds: &[Kind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What people meet when a host forbids or lacks something.
fn cloning(error: Error) -> Error {
    match error.errno() {
        Some(libc::EPERM) => {
            error.cure("it needs root (CAP_SYS_ADMIN), or a user namespace that may be made here")
        }
        Some(libc::ENOSPC) => error.cure("a limit in /proc/sys/user/max_*_namespaces is reached"),
        Some(libc::EINVAL) => error.cure("the kernel may lack one of these; see /proc/self/ns"),
        Some(libc::EACCES) => error.cure(
            "a user may put a process only from one cgroup of his own to another: call rt by `systemd-run --user --scope`",
        ),
        Some(libc::EBUSY) => {
            error.cure("the cgroup has controllers enabled for its children, so it can hold no process")
        }
        _ => error,
    }
}
