//! The root filesystem: attached before the mounts are made, entered after the hooks, finished at last.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;

use super::target::{self, Links};
use crate::error::{Context, Result};
use crate::parent::prepare::Prepared;
use crate::plan::Surroundings;
use crate::plan::mount_options::{Propagation, attr};
use crate::plan::rootfs::{Entry, Rootfs};
use crate::sys::mount::{Depth, MountAttr, mount_setattr};

/// Cuts the new mount namespace off from the host's and attaches the root filesystem; gives the root's handle.
pub fn attach(around: &Surroundings, prepared: &Prepared) -> Result<OwnedFd> {
    let rootfs = &around.rootfs;
    let Some(tree) = &prepared.root else { return in_place(&rootfs.path) };
    if rootfs.entry == Entry::Chroot {
        return attach_among_others(rootfs, tree);
    }
    // The host's later mounts may still come in (slave), ours must not go out.
    let propagation = match rootfs.propagation {
        Some(Propagation { kind: libc::MS_PRIVATE | libc::MS_UNBINDABLE, .. }) => libc::MS_PRIVATE,
        _ => libc::MS_SLAVE,
    };
    mount_setattr(CWD, c"/", Depth::Tree, MountAttr { propagation, ..Default::default() })
        .what(|| "cut the mount namespace off from the host's")?;
    for below in &prepared.under {
        place(rootfs, below, propagation)?;
    }
    place(rootfs, tree, propagation)?;
    rustix::io::fcntl_dupfd_cloexec(tree, 3).what(|| "duplicate the root's handle")
}

/// In a mount namespace where others live nothing of theirs changes, and what the container mounts stays on its own tree.
fn attach_among_others(rootfs: &Rootfs, tree: &OwnedFd) -> Result<OwnedFd> {
    let what = || format!("attach the root filesystem at {}", rootfs.path.display());
    let place = in_place(&rootfs.path).what(what)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", &place, c"", flags).what(what)?;
    // ORDER: once it is attached: KERNEL: that makes it shared where its mount point is.
    mount_setattr(tree, c"", Depth::Tree, MountAttr { propagation: libc::MS_PRIVATE, ..Default::default() })
        .what(what)?;
    rustix::io::fcntl_dupfd_cloexec(tree, 3).what(|| "duplicate the root's handle")
}

/// Attaches a detached tree at the root's path, over what is there.
fn place(rootfs: &Rootfs, tree: &OwnedFd, propagation: u64) -> Result<()> {
    // Whatever is asked for: else all that is mounted on it would reach the host's, and pivot_root(2) takes no shared root.
    mount_setattr(tree, c"", Depth::Tree, MountAttr { propagation, ..Default::default() })
        .what(|| format!("cut the root filesystem {} off from the host's", rootfs.path.display()))?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match rustix::mount::move_mount(tree, c"", CWD, &rootfs.path, onto) {
        // In a user namespace the way to the bundle may be closed: any place does for a root that we only pivot to.
        Err(Errno::ACCESS) => rustix::mount::move_mount(tree, c"", CWD, c"/", onto),
        // Nor is there a need for a mount point, if nothing of the root comes from there.
        Err(Errno::NOENT) if !rootfs.mounts.is_empty() => {
            rustix::mount::move_mount(tree, c"", CWD, c"/", onto)
        }
        moved => moved,
    }
    .what(|| format!("attach the root filesystem at {}", rootfs.path.display()))
}

/// Without a mount namespace of its own the container gets a directory of the one that this process is in by now. Others have written
/// what is there, and this process still has the host's directories open: no link of /proc leads to them.
fn in_place(path: &Path) -> Result<OwnedFd> {
    let what = || format!("open the root filesystem {}", path.display());
    let place = target::open(target::root()?, path, Links::Follow).what(what)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&place).what(what)?.st_mode) {
        FileType::Directory => Ok(place),
        _ => Err(Errno::NOTDIR).what(what),
    }
}

/// Makes the root filesystem the root, and lets go of the host's.
pub fn change(around: &Surroundings, root: &OwnedFd) -> Result<()> {
    if around.rootfs.entry == Entry::Chroot {
        return enter(root);
    }
    rustix::process::fchdir(root).what(|| "enter the root filesystem")?;
    match around.rootfs.entry {
        Entry::Pivot => pivot(),
        Entry::Chroot | Entry::MoveAndChroot => {
            rustix::mount::move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .what(|| "move the root filesystem onto /")?;
            chroot()
        }
    }
}

/// Makes a directory the root of this process alone.
pub fn enter(root: &OwnedFd) -> Result<()> {
    rustix::process::fchdir(root).what(|| "enter the root filesystem")?;
    chroot()
}

fn pivot() -> Result<()> {
    let pivoted = crate::sys::mount::pivot().what(|| "pivot_root to the root filesystem");
    pivoted.map_err(|error| match error.errno() {
        Some(libc::EINVAL) => {
            error.cure("the host's root may be a ramfs: --no-pivot works there, less safely")
        }
        _ => error,
    })
}

fn chroot() -> Result<()> {
    rustix::process::chroot(c".").what(|| "change the root")?;
    rustix::process::chdir(c"/").what(|| "enter the new root")
}

/// What must come last: propagation as asked for, and no more writing to a read-only root.
pub fn finish(around: &Surroundings, prepared: &Prepared, root: &OwnedFd) -> Result<()> {
    let rootfs = &around.rootfs;
    if prepared.root.is_none() {
        return Ok(());
    }
    if let Some(Propagation { kind, recursive }) = rootfs.propagation {
        let depth = if recursive { Depth::Tree } else { Depth::One };
        mount_setattr(root, c"", depth, MountAttr { propagation: kind, ..Default::default() })
            .what(|| "set the propagation of the root")?;
    }
    if rootfs.readonly {
        mount_setattr(root.as_fd(), c"", Depth::One, MountAttr { set: attr::RDONLY, ..Default::default() })
            .what(|| "make the root read-only")?;
    }
    Ok(())
}
