//! The root mount of a container that has no mount namespace of its own: it stands in one where others live, and must go with the
//! container.
//!
//! All that such a container mounts lies on this one mount, so taking it away takes all. It is known by its id, which is written down
//! before it is attached: what else may be mounted at that path is never touched.

use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::UnmountFlags;

use super::prepare::Prepared;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Plan;
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::rootfs::Entry;
use crate::state::RootMount;
use crate::sys::clone::{Clone3, Side};
use crate::sys::process::{exit_now, open_namespace};

/// Takes the mount away when it is dropped.
#[derive(Debug)]
pub struct SharedRoot {
    mount: RootMount,
    kept: bool,
}

impl SharedRoot {
    /// None for a container whose mounts go with its namespace, or that has none.
    pub fn of(plan: &Plan, prepared: &Prepared) -> Result<Option<Self>> {
        let rootfs = &plan.surroundings.rootfs;
        let Some(tree) = prepared.root.as_ref().filter(|_| rootfs.entry == Entry::Chroot) else {
            return Ok(None);
        };
        let id = mount_id(tree, Path::new(""), AtFlags::EMPTY_PATH).what(|| "look at the root filesystem")?;
        let joined = plan.task.namespaces.join.iter().find(|join| join.kind == Namespace::Mount);
        let namespace = joined.map(|join| join.path.clone());
        Ok(Some(Self { mount: RootMount { id, path: rootfs.path.clone(), namespace }, kept: false }))
    }

    /// What `delete` needs.
    pub fn record(&self) -> &RootMount {
        &self.mount
    }

    /// The container is whole: `delete` takes it away.
    pub fn keep(root: Option<Self>) {
        if let Some(mut root) = root {
            root.kept = true;
        }
    }
}

impl Drop for SharedRoot {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove(&self.mount)
        {
            tracing::warn!("{error}");
        }
    }
}

/// Takes the mount away. No error if it is gone, or was never attached.
pub fn remove(mount: &RootMount) -> Result<()> {
    let what = || format!("unmount {}", mount.path.display());
    let Some(namespace) = &mount.namespace else { return remove_here(mount).what(what) };
    let namespace = match open_namespace(namespace) {
        // With the last way into it, the namespace is gone for us.
        Err(rustix::io::Errno::NOENT) | Ok(None) => return Ok(()),
        Ok(Some(namespace)) => namespace,
        Err(errno) => return Err(errno).what(what),
    };
    let born = Clone3::default().call().what(|| "clone a process that enters the mount namespace")?;
    let Side::Parent(pid, _pidfd) = born else {
        let done = setns(&namespace, CloneFlags::CLONE_NEWNS).is_ok() && remove_here(mount).is_ok();
        exit_now(i32::from(!done));
    };
    match nix::sys::wait::waitpid(pid, None).what(what)? {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        _ => Err(Error::new(Kind::Internal, format!("{} in the mount namespace that was joined", what()))),
    }
}

fn remove_here(mount: &RootMount) -> rustix::io::Result<()> {
    match mount_id(CWD, &mount.path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(id) if id == mount.id => {
            rustix::mount::unmount(&mount.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        }
        Ok(_) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// KERNEL(6.8): ids that are never used again; below that, ids that are not while their mount stands.
fn mount_id(at: impl std::os::fd::AsFd, path: &Path, flags: AtFlags) -> rustix::io::Result<u64> {
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    Ok(rustix::fs::statx(at, path, flags, StatxFlags::MNT_ID | UNIQUE)?.stx_mnt_id)
}
