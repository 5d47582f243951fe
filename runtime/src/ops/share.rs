//! `--share`: finds the running container whose namespaces and shared memory a new one gets.
//!
//! What that changes in the config is [`crate::plan::sharing`].

use std::os::fd::OwnedFd;
use std::path::Path;

use super::options::{Global, Share, SharedNamespace};
use crate::error::{Error, Kind, Result};
use crate::parent::prepare::Prepared;
use crate::parent::shared_memory;
use crate::plan::Plan;
use crate::plan::mounts::Content;
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::sharing::{SHARED_MEMORY, Sharing};
use crate::state::{Depth, Origin, ProcessId, StateDir, Status};

/// A running container, held by a descriptor of its init.
#[derive(Debug)]
pub struct Partner {
    /// What is shared with it.
    pub sharing: Sharing,
    init: ProcessId,
    origin: Origin,
    pidfd: OwnedFd,
}

impl Partner {
    /// NotFound if there is no such container, WrongStatus if it has no process.
    pub fn find(global: &Global, share: &Share) -> Result<Self> {
        let what = || format!("share namespaces with container {:?}", share.with.as_str());
        let container = StateDir::new(&global.root).open(&share.with).map_err(|e| e.during(what()))?;
        let status = container.status()?;
        let record = container.record();
        let init = match (status, record.init) {
            (Status::Created | Status::Running | Status::Paused, Some(init)) => init,
            _ => return Err(not_there(&what(), status)),
        };
        let pidfd = init.open()?.ok_or_else(|| not_there(&what(), Status::Stopped))?;
        let mut namespaces: Vec<_> = share.namespaces.iter().map(|shared| kind(*shared)).collect();
        let origin = Origin::of(record, init, Depth::Child).map_err(|error| error.during(what()))?;
        if record.has(Namespace::User) {
            namespaces.insert(0, Namespace::User);
        }
        let sharing = Sharing { with: share.with.as_str().to_owned(), pid: init.pid, namespaces };
        Ok(Self { sharing, init, origin, pidfd })
    }

    /// Comes after the namespaces were opened: as that container's init is still there now, they are its own, and not those of a process
    /// that got its pid since, nor what it has made itself.
    pub fn vouch(&self, plan: &Plan, joined: &[(Namespace, OwnedFd)]) -> Result<()> {
        let what = || format!("share with container {:?}", self.sharing.with);
        if !self.init.is_alive()? {
            return Err(not_there(&what(), Status::Stopped));
        }
        self.origin.check().map_err(|error| error.during(what()))?;
        // The config may name another user namespace than that container's.
        let theirs = self.sharing.path(Namespace::User);
        let named = plan.task.namespaces.join.iter().any(|join| join.path.as_os_str() == theirs.as_str());
        let user = joined.iter().find(|(kind, _)| *kind == Namespace::User).filter(|_| named);
        user.map_or(Ok(()), |(_, user)| self.origin.holds(user)).map_err(|error| error.during(what()))
    }

    /// Adds what that container lends to what init inherits.
    pub fn lend(&self, plan: &Plan, prepared: &mut Prepared) -> Result<()> {
        let what = || format!("share with container {:?}", self.sharing.with);
        for (mount, source) in plan.surroundings.mounts.iter().zip(&mut prepared.sources) {
            if matches!(mount.content, Content::Lent { .. }) {
                let tree = shared_memory::clone_from(&self.pidfd, Path::new(SHARED_MEMORY));
                *source = Some(tree.map_err(|error| explained(error).during(what()))?);
            }
        }
        // ORDER: once its mount namespace was entered.
        self.origin.check().map_err(|error| error.during(what()))
    }
}

fn kind(shared: SharedNamespace) -> Namespace {
    match shared {
        SharedNamespace::Net => Namespace::Network,
        SharedNamespace::Ipc => Namespace::Ipc,
        SharedNamespace::Uts => Namespace::Uts,
        SharedNamespace::Pid => Namespace::Pid,
    }
}

fn not_there(what: &str, status: Status) -> Error {
    Error::new(Kind::WrongStatus, format!("{what}: it is {status}"))
        .cure("namespaces are shared with a container that runs; `rt list` shows them")
}

fn explained(error: Error) -> Error {
    let cure = "mount a tmpfs there in its config, or leave ipc out of --share";
    match error.errno() {
        Some(libc::ENOENT | libc::ENOTDIR) => error.cure(cure),
        Some(libc::ELOOP) => error.cure(format!("it must be no symbolic link: {cure}")),
        None if error.kind() == Kind::Denied => error.cure(cure),
        _ => error,
    }
}
