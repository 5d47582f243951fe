//! Birth of init: one clone3 straight into its namespaces and its cgroup.
//!
//! Which flags ride on the clone depends on the plan; this is the only place that knows why:
//! - A PID namespace that is joined takes only children, so the parent enters it for the length of the clone and comes back.
//! - Clock offsets can only be written before anybody is in the time namespace: the parent makes that one, and comes back.
//! - New namespaces must belong to the user namespace. If that is joined, or if it is new while others are joined, a process in
//!   between (the hop) joins everything with the host's rights and clones init as its own sibling.
//!
//! It does not know what init does, nor what the parent does while it waits.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::init::Door;
use crate::link::{Link, Message};
use crate::plan::namespaces::{Join, Kind, Namespaces};
use crate::plan::{Surroundings, Task};
use crate::sys::clone::{Clone3, Side};
use crate::sys::process::{exit_now, namespace_type};

/// Init, alive and waiting for Go. Dropped: it is killed and reaped.
#[derive(Debug)]
pub struct Child {
    /// As seen from here.
    pub pid: Pid,
    /// Stands for it, whatever happens to the number.
    pub pidfd: OwnedFd,
    /// The parent's end.
    pub link: Link,
    kept: bool,
}

/// Where init is born.
#[derive(Debug)]
pub struct Cradle<'a> {
    /// The cgroup, where there is one before there is a process.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Namespaces to join, opened and checked: see [`open_joined`].
    pub joined: &'a [(Kind, OwnedFd)],
}

/// Opens the namespaces to join and checks what they are, before anything is made.
pub fn open_joined(namespaces: &Namespaces) -> Result<Vec<(Kind, OwnedFd)>> {
    namespaces.join.iter().map(|join| open_one(join).map(|fd| (join.kind, fd))).collect()
}

fn open_one(join: &Join) -> Result<OwnedFd> {
    let what = || format!("join the {} namespace {}", join.kind.name(), join.path.display());
    let file = File::open(&join.path).what(what).map_err(|error| match error.errno() {
        Some(libc::ENOENT) => error.cure("the process or the bind mount that held it is gone"),
        _ => error,
    })?;
    let flag = namespace_type(file.as_fd())
        .map_err(|_| Error::invalid(format!("{}: it is not a namespace", what())))?;
    if flag != join.kind.flag() {
        let other = Kind::ALL.into_iter().find(|kind| kind.flag() == flag).map_or("unknown", Kind::name);
        return Err(Error::invalid(format!("{}: it is of type {other}", what())));
    }
    Ok(file.into())
}

/// Refuses to rename the host, whose UTS namespace has paths as others have.
pub fn spare_host_name(around: &Surroundings, joined: &[(Kind, OwnedFd)]) -> Result<()> {
    let named = around.hostname.is_some() || around.domainname.is_some();
    let Some((_, uts)) = joined.iter().find(|(kind, _)| named && *kind == Kind::Uts) else { return Ok(()) };
    let what = || "look at the uts namespace to join";
    let (theirs, ours) =
        (rustix::fs::fstat(uts).what(what)?, rustix::fs::stat("/proc/self/ns/uts").what(what)?);
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        return Err(Error::new(
            ErrorKind::Denied,
            "hostname: the uts namespace to join is the runtime's own",
        )
        .cure("remove hostname and domainname, or make a new uts namespace"));
    }
    Ok(())
}

/// Clones. `init` runs in the child with its end of the link and the namespaces that it still has to join, and never returns.
pub fn spawn(task: &Task, cradle: &Cradle<'_>, init: impl Fn(Link, Vec<Door>)) -> Result<Child> {
    let (ours, theirs) = Link::pair()?;
    let namespaces = &task.namespaces;
    let new = namespaces
        .new
        .iter()
        .filter(|kind| !by_parent(task, **kind))
        .fold(0, |flags, kind| flags | kind.flag());
    let foreign = namespaces.joins(Kind::User) || namespaces.makes(Kind::User) && !cradle.joined.is_empty();
    if foreign {
        return hop(task, cradle, new, (ours, theirs), init);
    }
    let away = Away::go(task, cradle)?;
    let born = Clone3 { namespaces: new, cgroup: cradle.cgroup, sibling: false }.call();
    if let Ok(Side::Child) = born {
        drop(ours);
        init(theirs, remaining(cradle, |kind| kind != Kind::Pid));
        exit_now(1);
    }
    away.come_back()?;
    match born.what(|| format!("clone into new namespaces ({})", names(&namespaces.new))).map_err(cloning)? {
        Side::Parent(pid, pidfd) => Ok(Child { pid, pidfd, link: ours, kept: false }),
        Side::Child => Err(Error::new(ErrorKind::Internal, "the child came back")),
    }
}

/// Clones into the namespaces of a process that runs: `which` of them, its PID namespace by way of the parent.
pub fn spawn_beside(
    beside: OwnedFd,
    which: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    init: impl Fn(Link, Vec<Door>),
) -> Result<Child> {
    let (ours, theirs) = Link::pair()?;
    let mut away = Away { back: Vec::new() };
    if which.contains(CloneFlags::CLONE_NEWPID) {
        away.back.push(own("pid")?);
        setns(&beside, CloneFlags::CLONE_NEWPID).what(|| "join the container's pid namespace")?;
    }
    let born = Clone3 { namespaces: 0, cgroup, sibling: false }.call();
    if let Ok(Side::Child) = born {
        drop(ours);
        init(theirs, vec![Door { fd: beside, which: which - CloneFlags::CLONE_NEWPID }]);
        exit_now(1);
    }
    away.come_back()?;
    match born.what(|| "clone into the container's cgroup").map_err(cloning)? {
        Side::Parent(pid, pidfd) => Ok(Child { pid, pidfd, link: ours, kept: false }),
        Side::Child => Err(Error::new(ErrorKind::Internal, "the child came back")),
    }
}

/// A process of its own joins everything while it has the host's rights, the user namespace last, and clones init as a child of
/// ours. KERNEL: CLONE_PARENT. It says init's pid and is gone.
fn hop(
    task: &Task,
    cradle: &Cradle<'_>,
    new: u64,
    (ours, theirs): (Link, Link),
    init: impl Fn(Link, Vec<Door>),
) -> Result<Child> {
    let away = Away::go_for_offsets(task)?;
    let born = Clone3 { namespaces: 0, cgroup: cradle.cgroup, sibling: false }.call();
    if let Ok(Side::Child) = born {
        drop(ours);
        let cloned = join_all(cradle).and_then(|()| {
            Clone3 { namespaces: new, cgroup: None, sibling: true }
                .call()
                .what(|| "clone into new namespaces")
        });
        match cloned {
            Ok(Side::Child) => init(theirs, Vec::new()),
            Ok(Side::Parent(pid, _)) => {
                exit_now(i32::from(theirs.send(&Message::Born(pid.as_raw())).is_err()))
            }
            Err(error) => {
                let _ = theirs.send(&Message::Failed(crate::step::Step::Clone as u8, error));
            }
        }
        exit_now(1);
    }
    away.come_back()?;
    drop(theirs);
    let Side::Parent(hop, _pidfd) = born.what(|| "clone")? else {
        return Err(Error::new(ErrorKind::Internal, "the child came back"));
    };
    let said = ours.receive();
    nix::sys::wait::waitpid(hop, None).what(|| "wait for the process that joins namespaces")?;
    match said? {
        Some(Message::Born(pid)) => {
            let pid = Pid::from_raw(pid);
            // Our child, not reaped yet: the number can't be anybody else's.
            let pidfd = crate::sys::pidfd::open(pid.as_raw()).what(|| "open a pidfd of init")?;
            Ok(Child { pid, pidfd, link: ours, kept: false })
        }
        Some(Message::Failed(_, error)) => Err(error),
        _ => Err(Error::new(ErrorKind::Internal, "the process that joins namespaces died")),
    }
}

fn join_all(cradle: &Cradle<'_>) -> Result<()> {
    let user_last = cradle.joined.iter().filter(|(kind, _)| *kind != Kind::User);
    for (kind, namespace) in user_last.chain(cradle.joined.iter().filter(|(kind, _)| *kind == Kind::User)) {
        setns(namespace, CloneFlags::empty()).what(|| format!("join the {} namespace", kind.name()))?;
    }
    Ok(())
}

fn remaining(cradle: &Cradle<'_>, wanted: fn(Kind) -> bool) -> Vec<Door> {
    let chosen = cradle.joined.iter().filter(|(kind, _)| wanted(*kind));
    let fds = chosen.filter_map(|(_, fd)| rustix::io::fcntl_dupfd_cloexec(fd, 3).ok());
    fds.map(|fd| Door { fd, which: CloneFlags::empty() }).collect()
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
    fn go(task: &Task, cradle: &Cradle<'_>) -> Result<Self> {
        let mut away = Self::go_for_offsets(task)?;
        if let Some((_, pids)) = cradle.joined.iter().find(|(kind, _)| *kind == Kind::Pid) {
            away.back.push(own("pid")?);
            setns(pids, CloneFlags::CLONE_NEWPID).what(|| "join the pid namespace")?;
        }
        Ok(away)
    }

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
            match setns(&namespace, CloneFlags::empty()) {
                // The host's can't be entered by who is root of a user namespace. What he makes after this lives with the container.
                Err(Errno::EPERM) if crate::privilege::is_rootless() => {}
                back => back.what(|| "come back to the runtime's own namespace")?,
            }
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

impl Child {
    /// It goes on without us.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.kept {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
            let _ = nix::sys::wait::waitpid(self.pid, None);
        }
    }
}
