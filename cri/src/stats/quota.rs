//! Project quotas, where the file system of writable layers has them: each layer is a project, and the file system itself counts what it
//! takes. No limit is set. A project's number is on the layer's directory, and nowhere else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use runtime::sys::quota::{Used, project, set_project, used};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Context, Error, Result};

/// Numbers of layers: an administrator's are small.
const FIRST: u32 = 1 << 30;

/// How many numbers are tried: that one is taken hardly ever happens.
const TRIES: u32 = 16;

/// A file system that counts projects, or one that doesn't.
#[derive(Debug, Default)]
pub struct Quotas {
    root: Option<OwnedFd>,
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).what(|| format!("open {}", path.display()))
}

impl Quotas {
    /// Those of the file system that has `root`.
    pub fn open(root: &Path) -> Self {
        let counts = |root: &OwnedFd| used(root.as_fd(), 0).is_ok();
        Self { root: directory(root).ok().filter(counts) }
    }

    /// Whether it counts any.
    pub fn are_counted(&self) -> bool {
        self.root.is_some()
    }

    /// Makes empty directories, which are on this file system, one project.
    pub fn mark(&self, directories: &[&Path]) -> Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let number = Self::free(root)?;
        for path in directories {
            set_project(directory(path)?.as_fd(), number)
                .what(|| format!("give {} to project {number}", path.display()))?;
        }
        Ok(())
    }

    fn free(root: &OwnedFd) -> Result<u32> {
        for _ in 0..TRIES {
            let mut bytes = [0; 4];
            rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
                .what(|| "read random bytes for a project")?;
            let number = FIRST | (u32::from_ne_bytes(bytes) & (FIRST - 1));
            if used(root.as_fd(), number).map_or(true, |used| used.inodes == 0) {
                return Ok(number);
            }
        }
        Err(Error::internal(format!("find a project without files: {TRIES} numbers are taken")))
    }

    /// What a layer takes; none where it is no project, and has to be walked.
    pub fn used(&self, layer: &Path) -> Option<Used> {
        let root = self.root.as_ref()?;
        let number = project(directory(layer).ok()?.as_fd()).ok().filter(|number| *number >= FIRST)?;
        used(root.as_fd(), number).ok()
    }
}
