//! Paths that read as empty and paths that can't be written.
//!
//! CVE-2025-31133, CVE-2025-52565: what covers a path is a mount of ours that was looked at on the host; what is covered is a
//! handle, below that of our own procfs or sysfs where it is in one, and a symbolic link is refused.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::FileType;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::kept::{Found, Kept, is_there};
use super::landing::kind;
use super::landing::{Landing, mount_id};
use super::target::spent;
use crate::error::{Context, Error, Result};
use crate::parent::prepare::Prepared;
use crate::plan::Surroundings;
use crate::plan::mount_options::attr;
use crate::sys::mount::{Depth, MountAttr, mount_setattr};

/// Masks and protects everything that is there; what is not there needs neither.
pub fn all(around: &Surroundings, prepared: &Prepared, (root, kept): (&OwnedFd, &Kept)) -> Result<()> {
    for path in &around.readonly {
        read_only(root, kept, path).what(|| format!("make {} read-only", path.display()))?;
    }
    let mut covers = Covers { null: prepared.null.as_ref(), null_used: Used::Never, empty: None };
    for path in &around.masked {
        covers.mask(root, kept, path).what(|| format!("mask {}", path.display()))?;
    }
    kept.verify(root)
}

/// What lies over masked paths: one mount for files and one for directories, cloned for the second path and all after it. An
/// instance for each would cost kernel memory and time. KERNEL: only an attached mount can be cloned, so the first use attaches
/// the original.
struct Covers<'a> {
    null: Option<&'a OwnedFd>,
    null_used: Used,
    empty: Option<OwnedFd>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Used {
    Never,
    Before,
}

impl Covers<'_> {
    fn mask(&mut self, root: &OwnedFd, kept: &Kept, path: &Path) -> Result<()> {
        let Some((found, kind)) = place(root, kept, path)? else { return Ok(()) };
        let way = (root, path);
        if kind != FileType::Directory {
            let null = self
                .null
                .ok_or_else(|| Error::new(crate::Kind::Internal, "the host's /dev/null was not opened"))?;
            return cover(null, std::mem::replace(&mut self.null_used, Used::Before), found, way);
        }
        match &self.empty {
            Some(empty) => cover(empty, Used::Before, found, way),
            None => cover(self.empty.insert(empty_directory()?), Used::Never, found, way),
        }
    }
}

fn cover(original: &OwnedFd, used: Used, found: Found, way: (&OwnedFd, &Path)) -> Result<()> {
    match used {
        Used::Never => over(original, found, way),
        Used::Before => {
            let tree = clone(original)?;
            over(&tree, found, way)?;
            spent(tree);
            Ok(())
        }
    }
}

/// Attaches it, and looks whether it is seen by name, where somebody could have moved what it covers.
fn over(tree: impl AsFd, found: Found, (root, path): (&OwnedFd, &Path)) -> Result<()> {
    Landing::hidden(found.handle).attach(&tree)?;
    if found.stays { Ok(()) } else { is_there(root, path, mount_id(&tree)?) }
}

fn read_only(root: &OwnedFd, kept: &Kept, path: &Path) -> Result<()> {
    let Some((found, _)) = place(root, kept, path)? else { return Ok(()) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(&found.handle, c"", flags).what(|| "clone it")?;
    mount_setattr(&tree, c"", Depth::One, MountAttr { set: attr::RDONLY, ..Default::default() })
        .what(|| "set its attributes")?;
    over(&tree, found, (root, path))?;
    spent(tree);
    Ok(())
}

fn place(root: &OwnedFd, kept: &Kept, path: &Path) -> Result<Option<(Found, FileType)>> {
    let Some(found) = kept.find(root, path)? else { return Ok(None) };
    match kind(&found.handle)? {
        FileType::Symlink => Err(Error::invalid("it is a symbolic link in the container's root filesystem")
            .cure("name what it points to")),
        kind => Ok(Some((found, kind))),
    }
}

fn clone(tree: &OwnedFd) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(tree, c"", flags).what(|| "clone the mask")
}

fn empty_directory() -> Result<OwnedFd> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, c"mode", c"755")?;
        rustix::mount::fsconfig_set_string(&context, c"nr_inodes", c"1")?;
        rustix::mount::fsconfig_create(&context)?;
        let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        rustix::mount::fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::from_bits_retain(attributes as u32),
        )
    };
    make().what(|| "make an empty tmpfs")
}
