//! What a container's mounts would do to the host, seen from the config alone: mounts that reach it by propagation.

use std::path::Path;

use super::Surroundings;
use super::mount_options::Propagation;
use super::mounts::{Content, Mount};
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

/// The mount that a path lies in: the deepest, and of those the last.
fn above<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let all = mounts.iter().filter(|mount| path.starts_with(&mount.target));
    all.max_by_key(|mount| mount.target.components().count())
}

fn is_shared(mount: &Mount) -> bool {
    let last = mount.options.propagation.last();
    matches!(mount.content, Content::Bind { .. })
        && matches!(last, Some(Propagation { kind: libc::MS_SHARED, .. }))
}
