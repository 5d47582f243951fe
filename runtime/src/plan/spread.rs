//! What a container's mounts would do to the host, seen from the config alone: mounts that reach it by propagation, cgroups that are all of
//! the host's.

use super::Surroundings;
use super::capabilities::SYS_ADMIN;
use super::mount_options::{Propagation, attr};
use super::mounts::{Content, Mount, above};
use super::namespaces::{Kind, Namespaces};
use crate::error::{Error, Result};

/// What hides or protects a path is a mount; below a mount that is shared with the host the host would get it too, and keep it.
pub fn covers(around: &Surroundings) -> Result<()> {
    let lists = [("linux.maskedPaths", &around.masked), ("linux.readonlyPaths", &around.readonly)];
    for (field, paths) in lists {
        for path in paths {
            let Some(mount) = above(&around.mounts, path).filter(|mount| is_shared(mount)) else { continue };
            return Err(Error::invalid(format!(
                "{field} {}: it lies below {}, which is shared with the host: the host would have that mount too, for good",
                path.display(),
                mount.target.display()
            ))
            .cure("take it out, or mount that volume rslave or rprivate"));
        }
    }
    Ok(())
}

fn is_shared(mount: &Mount) -> bool {
    let last = mount.options.propagation.last();
    matches!(mount.content, Content::Bind { .. })
        && matches!(last, Some(Propagation { kind: libc::MS_SHARED, .. }))
}

/// Without a cgroup namespace a cgroup mount shows the host's whole tree. Who could not mount that himself does not get it for writing. Gives
/// warnings.
pub fn host_cgroups(mounts: &mut [Mount], namespaces: &Namespaces, bounding: u64) -> Vec<String> {
    if namespaces.has(Kind::Cgroup) || bounding & SYS_ADMIN != 0 && !namespaces.has(Kind::User) {
        return Vec::new();
    }
    let all = mounts.iter_mut().filter(|mount| mount.content == Content::Cgroup);
    let writable = all.filter(|mount| mount.options.attributes.set & attr::RDONLY == 0);
    writable
        .map(|mount| {
            mount.options.attributes.set |= attr::RDONLY;
            mount.options.attributes.clear &= !attr::RDONLY;
            format!(
                "the cgroup mount at {} is read-only: without a cgroup namespace it shows the host's whole tree (add {{\"type\": \"cgroup\"}} to linux.namespaces)",
                mount.target.display()
            )
        })
        .collect()
}
