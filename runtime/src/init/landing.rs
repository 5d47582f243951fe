//! The one door through which anything is mounted in a container: it looks at the place where the mount lands, not at how that
//! is written, since links of the image lead wherever they like.
//!
//! CVE-2019-16884, CVE-2025-52881: of a procfs only a few files are ever covered, besides by masks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use rustix::mount::MoveMountFlags;

use super::target::{self, Links, spent};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::mounts::PROC_FILES;
use crate::sys::mount::is_procfs;

/// A place that was looked at.
#[derive(Debug)]
pub struct Landing(OwnedFd);

impl Landing {
    /// For what a config, an image or a caller names: `tree` shall be mounted at `place`.
    pub fn of(root: impl AsFd, place: OwnedFd, tree: impl AsFd) -> Result<Self> {
        if !is_procfs(&place).what(|| "look at the place")? {
            return Ok(Self(place));
        }
        let stat = rustix::fs::fstat(&place).what(|| "look at the place")?;
        let may = match stat.st_ino {
            ROOT => is_root_of_procfs(tree)?,
            _ => PROC_FILES.iter().any(|file| is(&root, file, (stat.st_dev, stat.st_ino))),
        };
        if may {
            return Ok(Self(place));
        }
        Err(Error::new(Kind::Denied, "it would lie in a procfs, of which only a few files can be covered")
            .cure("mount it elsewhere; a link of the image may lead there"))
    }

    /// For a directory of the host's: nodes are made in /dev, and terminals found in /dev/pts. Neither shall be the host's but where it
    /// is written so, not by way of a link of the image.
    pub fn but_for_devices(self, root: impl AsFd, written: &Path) -> Result<Self> {
        for ours in ["/dev", "/dev/pts"].map(Path::new) {
            let Ok(there) = target::open(&root, ours, Links::Follow) else { continue };
            if written != ours && same(&there, &self.0)? {
                let what = format!("it would lie at {}, where a link of the image leads", ours.display());
                return Err(Error::new(Kind::Denied, what).cure("mount it elsewhere"));
            }
        }
        Ok(self)
    }

    /// For what hides or protects what is there.
    pub fn hidden(place: OwnedFd) -> Self {
        Self(place)
    }

    /// Attaches a detached mount.
    pub fn attach(self, tree: impl AsFd) -> Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let moved = rustix::mount::move_mount(&tree, c"", &self.0, c"", flags).what(|| "attach");
        moved.map_err(|error| unlike(error, &tree, &self.0))?;
        spent(self.0);
        Ok(())
    }
}

impl AsFd for Landing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The kernel only says EINVAL where a directory meets a file.
fn unlike(error: Error, source: impl AsFd, place: impl AsFd) -> Error {
    let Some(libc::EINVAL | libc::ENOTDIR) = error.errno() else { return error };
    let directory = |kind: Result<FileType>| kind.map(|kind| kind == FileType::Directory).ok();
    match (directory(kind(source)), directory(kind(place))) {
        (Some(true), Some(false)) => Error::invalid("the source is a directory, the destination is not"),
        (Some(false), Some(true)) => Error::invalid("the destination is a directory, the source is not"),
        _ => error,
    }
}

/// What kind of file a handle stands for.
pub fn kind(handle: impl AsFd) -> Result<FileType> {
    let stat = statx(handle, c"", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::TYPE)
        .what(|| "look at it")?;
    Ok(FileType::from_raw_mode(u32::from(stat.stx_mode)))
}

/// KERNEL: PROC_ROOT_INO of include/linux/proc_fs.h
const ROOT: u64 = 1;

/// Whether it is a whole procfs.
pub fn is_root_of_procfs(tree: impl AsFd) -> Result<bool> {
    let what = || "look at the source";
    Ok(is_procfs(&tree).what(what)? && rustix::fs::fstat(tree).what(what)?.st_ino == ROOT)
}

/// Whether two handles stand for one directory of one mount.
fn same(one: impl AsFd, other: impl AsFd) -> Result<bool> {
    let seen = |handle: BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(handle).what(|| "look at the place")?;
        Ok((stat.st_dev, stat.st_ino, mount_id(handle)?))
    };
    Ok(seen(one.as_fd())? == seen(other.as_fd())?)
}

fn is(root: impl AsFd, file: &str, it: (u64, u64)) -> bool {
    let opened = target::open(root, &Path::new("/proc").join(file), Links::Follow);
    opened.and_then(rustix::fs::fstat).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == it)
}

/// Which mount a handle is on.
pub fn mount_id(handle: impl AsFd) -> Result<u64> {
    let seen = rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    Ok(seen.what(|| "look which mount it is on")?.stx_mnt_id)
}
