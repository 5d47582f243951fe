//! Finds where the host has cgroup2. It makes no mount.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::parent::mountinfo;

// KERNEL: include/uapi/linux/magic.h
const CGROUP2: u64 = 0x6367_7270;

const OPEN: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root of the cgroup2 tree, as far as this process sees it.
#[derive(Debug)]
pub struct Mount {
    /// The directory.
    pub root: OwnedFd,
    /// Its path.
    pub path: PathBuf,
}

impl Mount {
    /// /sys/fs/cgroup if that is cgroup2; else where systemd mounts it on a host whose controllers are of cgroup v1; else wherever
    /// it is mounted.
    pub fn find() -> Result<Self> {
        for path in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            if let Some(mount) = Self::at(path.into())? {
                return Ok(mount);
            }
        }
        for path in mounted(&mountinfo::own()?) {
            if let Some(mount) = Self::at(path)? {
                return Ok(mount);
            }
        }
        Err(Error::unsupported("find a cgroup2 file system: none is mounted")
            .cure("mount one: `mount -t cgroup2 none /sys/fs/cgroup`, or boot with systemd.unified_cgroup_hierarchy=1"))
    }

    fn at(path: PathBuf) -> Result<Option<Self>> {
        let root = match rustix::fs::openat(CWD, &path, OPEN, Mode::empty()) {
            Ok(root) => root,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno).what(|| format!("open {}", path.display())),
        };
        let kind = rustix::fs::fstatfs(&root).what(|| format!("look at {}", path.display()))?.f_type;
        Ok((kind as u64 == CGROUP2).then_some(Self { root, path }))
    }
}

/// Mount points of cgroup2 in the table, those of a whole tree first.
fn mounted(table: &str) -> Vec<PathBuf> {
    let (whole, part): (Vec<_>, Vec<_>) = mountinfo::entries(table)
        .filter(|mount| mount.kind == "cgroup2")
        .partition(|mount| mount.root == "/");
    whole.into_iter().chain(part).map(|mount| PathBuf::from(mount.point)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_come_from_the_table() {
        let table = "\
            25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            30 25 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
            40 25 0:28 /a/b /mnt/part rw - cgroup2 none rw\n\
            41 25 0:28 / /mnt/my\\040groups rw shared:5 master:1 - cgroup2 none rw\n\
            42 1 0:29 / /mnt/cgroup2 rw - tmpfs cgroup2 rw\n";
        assert_eq!(mounted(table), [PathBuf::from("/mnt/my groups"), PathBuf::from("/mnt/part")]);
    }
}
