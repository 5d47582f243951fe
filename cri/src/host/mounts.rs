//! The host's mount table, to know how a mount passes mounts on. SPEC: proc_pid_mountinfo(5)

use std::path::{Path, PathBuf};

use runtime::parent::mountinfo;

use crate::error::Result;
use crate::oci::SourcePropagation;

/// Mount points with their propagation.
#[derive(Debug)]
pub struct Mounts {
    entries: Vec<(PathBuf, SourcePropagation)>,
}

impl Mounts {
    /// As this process sees them.
    pub fn read() -> Result<Self> {
        Ok(Self::parse(&mountinfo::own()?))
    }

    fn parse(table: &str) -> Self {
        let entry = |mount: mountinfo::Entry<'_>| {
            let has = |tag: &str| mount.tags.iter().any(|there| there.starts_with(tag));
            let propagation = match (has("shared:"), has("master:")) {
                (true, _) => SourcePropagation::Shared,
                (false, true) => SourcePropagation::Slave,
                (false, false) => SourcePropagation::Private,
            };
            (PathBuf::from(mount.point), propagation)
        };
        Self { entries: mountinfo::entries(table).map(entry).collect() }
    }

    /// Where something is mounted, what lies deeper first.
    pub fn points(&self) -> Vec<&Path> {
        let mut points: Vec<&Path> = self.entries.iter().map(|(point, _)| point.as_path()).collect();
        points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
        points
    }

    /// Of the mount that `path` lies on; the later of two at one point hides the earlier.
    pub fn propagation(&self, path: &Path) -> SourcePropagation {
        let on = self.entries.iter().rev().filter(|(point, _)| path.starts_with(point));
        on.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| *kind).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_propagation_of_the_mount_that_it_is_on() {
        let table = "\
            25 1 0:22 / / rw shared:1 - ext4 x rw\n\
            26 25 0:23 / /mnt/a\\040b rw master:2 - tmpfs x rw\n\
            27 25 0:24 / /mnt/both rw shared:3 master:2 - tmpfs x rw\n\
            28 25 0:25 / /mnt/plain rw - tmpfs x rw\n";
        let mounts = Mounts::parse(table);
        for (path, kind) in [
            ("/etc", SourcePropagation::Shared),
            ("/mnt/a b/c", SourcePropagation::Slave),
            ("/mnt/both", SourcePropagation::Shared),
            ("/mnt/plain/x/y", SourcePropagation::Private),
            ("/mnt/plainer", SourcePropagation::Shared),
        ] {
            assert_eq!(mounts.propagation(Path::new(path)), kind, "{path}");
        }
    }
}
