//! createContainer hooks of a container that joins a user namespace: run in all of its namespaces but that one.
//!
//! R8: they are programs of the host, and whoever has rights over a user namespace says by its binfmt_misc(5) what is executed in it. So a
//! process of the caller's own user namespace goes where init is, and runs them as the user who is the container's root, so that what they
//! write belongs to that, with the caller's capabilities. Init waits meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags};

use crate::child::Child;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::link::{Link, Message};
use crate::plan::namespaces::{Kind as Namespace, Namespaces};
use crate::plan::{Plan, idmap};
use crate::step::Step;
use crate::sys::clone::{Clone3, Side};
use crate::sys::process::{self, CapSets, exit_now};

/// Whether the container has such hooks.
pub fn has_any(plan: &Plan) -> bool {
    plan.task.namespaces.joins(Namespace::User) && !plan.hooks.create_container.is_empty()
}

/// Runs them, beside the container's `init` and in its cgroup; `state` is their standard input.
pub fn run_all(plan: &Plan, init: &Child, cgroup: Option<BorrowedFd<'_>>, state: &[u8]) -> Result<()> {
    let (ours, theirs) = Link::pair()?;
    let place = Place::of(&plan.task.namespaces, init)?;
    let born = Clone3 { namespaces: 0, cgroup, sibling: false }.call();
    let born = born.what(|| "clone a process that runs createContainer hooks")?;
    let Side::Parent(pid, _pidfd) = born else {
        drop(ours);
        let done = place.enter(init.pidfd.as_fd());
        let said = match done
            .and_then(|()| hooks::run_all("createContainer", &plan.hooks.create_container, state))
        {
            Ok(()) => Message::HooksDone,
            Err(error) => Message::Failed(Step::ContainerHooks as u8, error),
        };
        exit_now(i32::from(theirs.send(&said).is_err()));
    };
    drop(theirs);
    let said = ours.receive();
    nix::sys::wait::waitpid(pid, None).what(|| "wait for the process that runs createContainer hooks")?;
    match said? {
        Some(Message::HooksDone) => Ok(()),
        Some(Message::Failed(_, error)) => Err(error),
        _ => Err(Error::new(Kind::Internal, "the process that runs createContainer hooks died")),
    }
}

/// Where they run, and as whom.
struct Place {
    namespaces: CloneFlags,
    cwd: OwnedFd,
    uid: u32,
    gid: u32,
}

impl Place {
    fn of(namespaces: &Namespaces, init: &Child) -> Result<Self> {
        let pid = init.pid;
        let id = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            let map = idmap::read(&std::fs::read_to_string(&path).what(|| format!("read {path}"))?);
            let root = map.iter().find(|line| line.container_id == 0).map(|line| line.host_id);
            root.ok_or_else(|| {
                Error::invalid(format!("{path}: the user namespace that is joined has no root"))
            })
        };
        let cwd = format!("/proc/{pid}/cwd");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            namespaces: all_but_the_user_namespace(namespaces),
            cwd: rustix::fs::open(&cwd, flags, Mode::empty()).what(|| format!("open {cwd}"))?,
            uid: id("uid_map")?,
            gid: id("gid_map")?,
        })
    }

    fn enter(&self, init: BorrowedFd<'_>) -> Result<()> {
        setns(init, self.namespaces)
            .what(|| "join the container's namespaces to run createContainer hooks")?;
        rustix::process::fchdir(&self.cwd).what(|| "enter the working directory of createContainer hooks")?;
        self.become_root().what(|| "become the container's root to run createContainer hooks")
    }

    /// KERNEL: capabilities are kept over an execution by who isn't root if they are ambient (capabilities(7)).
    fn become_root(&self) -> nix::Result<()> {
        let permitted = process::capget()?.permitted;
        match process::setgroups(&[]) {
            // Nobody can, in an ordinary user's namespace.
            Err(nix::errno::Errno::EPERM) => {}
            done => done?,
        }
        process::keep_capabilities()?;
        process::setresgid(self.gid)?;
        process::setresuid(self.uid)?;
        process::capset(CapSets { effective: permitted, permitted, inheritable: permitted })?;
        (0..64).filter(|number| permitted >> number & 1 == 1).try_for_each(process::ambient_raise)
    }
}

/// R2: of the PID namespaces only one that nobody lives in but init.
fn all_but_the_user_namespace(namespaces: &Namespaces) -> CloneFlags {
    let wanted = |kind: &Namespace| match kind {
        Namespace::User => false,
        Namespace::Pid => namespaces.makes(*kind),
        _ => namespaces.has(*kind),
    };
    let kinds = Namespace::ALL.into_iter().filter(wanted);
    kinds.fold(CloneFlags::empty(), |flags, kind| flags | CloneFlags::from_bits_retain(kind.flag() as i32))
}
