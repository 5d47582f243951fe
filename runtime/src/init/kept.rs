//! Mounts of ours below which paths are hidden or protected, kept by handle from the moment that they are attached.
//!
//! A root filesystem may be shared with somebody who renames or removes /proc while we work. Names in a procfs or sysfs are the
//! kernel's alone, so what is looked for below the handle of one is found, or is truly not there. At the end [`Kept::verify`] makes
//! sure that who looks by name finds the mounts in which paths were hidden.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::landing::mount_id;
use super::target::{self, Links};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Surroundings;
use crate::sys::mount::has_the_kernels_names;

/// In the order in which they were attached.
#[derive(Debug, Default)]
pub struct Kept(Vec<One>);

#[derive(Debug)]
struct One {
    target: PathBuf,
    tree: OwnedFd,
    /// Whether its names are the kernel's.
    kernels: bool,
    used: Cell<bool>,
}

/// A path that is to be hidden or protected.
#[derive(Debug)]
pub struct Found {
    /// What is there.
    pub handle: OwnedFd,
    /// Whether nobody but the kernel can put something else there.
    pub stays: bool,
}

impl Kept {
    /// Of a mount that was attached at `target`.
    pub fn add(&mut self, around: &Surroundings, target: &Path, tree: impl AsFd) -> Result<()> {
        let mut paths = around.masked.iter().chain(&around.readonly);
        if target == Path::new("/") || !paths.any(|path| path.starts_with(target)) {
            return Ok(());
        }
        let tree = rustix::io::fcntl_dupfd_cloexec(tree, 3).what(|| "duplicate a mount's handle")?;
        let kernels = has_the_kernels_names(&tree).what(|| "look at a mount")?;
        self.0.push(One { target: target.to_owned(), tree, kernels, used: Cell::new(false) });
        Ok(())
    }

    /// The mounts' own: they are the container's, and needed until all is hidden.
    pub fn handles(&self) -> impl Iterator<Item = &OwnedFd> {
        self.0.iter().map(|mount| &mount.tree)
    }

    /// What is at a path. None where nothing is: in a filesystem of the kernel's that is so for good.
    pub fn find(&self, root: &OwnedFd, path: &Path) -> Result<Option<Found>> {
        let (opened, stays) = match self.above(path) {
            Some(mount) => {
                mount.used.set(true);
                let below = path.strip_prefix(&mount.target).unwrap_or(path);
                (target::open_below(&mount.tree, below), true)
            }
            None => (target::open(root, path, Links::NotLast), false),
        };
        match opened {
            Ok(handle) => Ok(Some(Found { handle, stays })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno).what(|| format!("open {} in the container", path.display())),
        }
    }

    /// The mount that a path is in, if its names are the kernel's.
    fn above(&self, path: &Path) -> Option<&One> {
        self.0.iter().rfind(|mount| path.starts_with(&mount.target)).filter(|mount| mount.kernels)
    }

    /// Whether those mounts are still where the container looks for them.
    pub fn verify(&self, root: &OwnedFd) -> Result<()> {
        self.0.iter().filter(|mount| mount.used.get()).try_for_each(|mount| {
            is_there(root, &mount.target, mount_id(&mount.tree)?)
                .what(|| format!("find what was mounted at {}", mount.target.display()))
        })
    }
}

/// Whether the mount of this number is what a path leads to.
pub fn is_there(root: &OwnedFd, path: &Path, id: u64) -> Result<()> {
    match target::open(root, path, Links::NotLast) {
        Ok(handle) if mount_id(&handle)? == id => Ok(()),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            Err(Error::new(Kind::Denied, "somebody has moved or removed it meanwhile")
                .cure("nobody else may write to a root filesystem while its container is made"))
        }
        Err(errno) => Err(errno).what(|| "open it"),
    }
}
