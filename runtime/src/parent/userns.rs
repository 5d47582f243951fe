//! User namespaces that hold nothing but a mapping: the kernel wants one for every idmapped mount.
//!
//! It makes no container's user namespace.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::place;
use crate::error::{Context, Error, Kind, Result};
use crate::link::Link;
use crate::plan::Plan;
use crate::plan::idmap::IdMap;
use crate::plan::mount_options::attr;
use crate::plan::mounts::MountIdMap;
use crate::plan::namespaces::Kind as Namespace;
use crate::sys::clone::{Clone3, Side};
use crate::sys::mount::{Depth, MountAttr, mount_setattr};
use crate::sys::process::exit_now;

/// Those made so far, one for each mapping.
#[derive(Debug)]
pub struct Mappings<'a> {
    /// The container's own, if its namespace is new.
    own: Option<&'a IdMap>,
    /// The container's, if it joins one.
    joined: Option<&'a OwnedFd>,
    made: Vec<(IdMap, OwnedFd)>,
}

impl<'a> Mappings<'a> {
    /// None made yet; `joined` are the namespaces that the container joins.
    pub fn new(plan: &'a Plan, joined: &'a [(Namespace, OwnedFd)]) -> Self {
        let joined = joined.iter().find(|(kind, _)| *kind == Namespace::User).map(|(_, fd)| fd);
        Self { own: plan.idmap.as_ref(), joined, made: Vec::new() }
    }

    /// Maps the ids of a detached mount, or of all of a tree. KERNEL(5.12), and a filesystem that takes part.
    pub fn apply(&mut self, tree: impl AsFd, depth: Depth, map: &MountIdMap) -> Result<()> {
        let userns = Some(self.namespace(map)?);
        mount_setattr(tree, c"", depth, MountAttr { set: attr::IDMAP, userns, ..Default::default() }).map_err(
            |errno| {
                let error = Error::os(errno as i32, "map its ids");
                match errno {
                    nix::errno::Errno::EINVAL => error.cure(
                        "its filesystem, or one below it, can't be idmapped on this kernel, or is idmapped already",
                    ),
                    nix::errno::Errno::EPERM => {
                        error.cure("it needs CAP_SYS_ADMIN where the filesystem was mounted")
                    }
                    _ => error,
                }
            },
        )
    }

    fn namespace(&mut self, map: &MountIdMap) -> Result<BorrowedFd<'_>> {
        let wanted = match map {
            MountIdMap::Own(map) => Some(map),
            MountIdMap::Container => self.own,
        };
        let Some(wanted) = wanted else {
            let none = || Error::new(Kind::Internal, "no mapping to use");
            return self.joined.map(AsFd::as_fd).ok_or_else(none);
        };
        let at = match self.made.iter().position(|(made, _)| made == wanted) {
            Some(at) => at,
            None => {
                let made = make(wanted).what(|| "make a user namespace with the mapping")?;
                self.made.push((wanted.clone(), made));
                self.made.len() - 1
            }
        };
        Ok(self.made[at].1.as_fd())
    }
}

/// A namespace lives as long as a process in it or a handle of it: the process is gone when this returns.
fn make(map: &IdMap) -> Result<OwnedFd> {
    let (ours, theirs) = Link::pair()?;
    let born = Clone3 { namespaces: libc::CLONE_NEWUSER as u64, ..Clone3::default() }.call();
    match born.what(|| "clone")? {
        Side::Child => {
            // Nobody ever writes: this waits for the parent to close its end, or to die.
            drop(ours);
            let _ = theirs.receive();
            exit_now(0)
        }
        Side::Parent(pid, _pidfd) => {
            let made = place::id_maps(pid, map).and_then(|()| {
                let path = format!("/proc/{pid}/ns/user");
                File::open(&path).what(|| format!("open {path}"))
            });
            drop(ours);
            nix::sys::wait::waitpid(pid, None).what(|| "wait for the process that held it")?;
            made.map(OwnedFd::from)
        }
    }
}
