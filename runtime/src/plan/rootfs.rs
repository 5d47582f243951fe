//! Where the container's root comes from and how it is attached.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::layers::{self, RootMount};
use super::mount_options::{self, Propagation};
use crate::error::{Error, Result};
use crate::spec;

/// The container's root.
#[derive(Debug, Clone, Serialize)]
pub struct Rootfs {
    /// Absolute path on the host; the mount point of `mounts` if there are any.
    pub path: PathBuf,
    /// What is mounted there, one over the other, and nowhere but in the container's mount namespace.
    pub mounts: Vec<RootMount>,
    /// Nothing can be written on the root mount.
    pub readonly: bool,
    /// What the root mount becomes in the end.
    pub propagation: Option<Propagation>,
    /// How it becomes the root.
    pub entry: Entry,
}

/// How a process changes its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// pivot_root(2): the old root is gone.
    Pivot,
    /// Move the mount over `/`, then chroot(2): for hosts whose root is a ramfs (`--no-pivot`).
    MoveAndChroot,
    /// chroot(2): the mount namespace is shared with processes whose root must stay what it is.
    Chroot,
}

/// SPEC: config.md#root, config-linux.md#rootfs-mount-propagation
pub fn plan(bundle: &Path, spec: &spec::Spec, linux: &spec::Linux, entry: Entry) -> Result<Rootfs> {
    let root = spec
        .root
        .as_ref()
        .ok_or_else(|| Error::invalid("root is missing").cure("give root.path, such as \"rootfs\""))?;
    if root.path.is_empty() {
        return Err(Error::invalid("root.path is empty").cure("give a path, such as \"rootfs\""));
    }
    let propagation = match linux.rootfs_propagation.as_deref() {
        None | Some("") => None,
        Some(word) => Some(mount_options::propagation(word).ok_or_else(|| {
            Error::invalid(format!("linux.rootfsPropagation: unknown value {word:?}")).cure(
                "it is one of shared, slave, private, unbindable, rshared, rslave, rprivate, runbindable",
            )
        })?),
    };
    Ok(Rootfs {
        path: bundle.join(&root.path),
        mounts: layers::given(spec.rootfs.as_deref())?,
        readonly: root.readonly,
        propagation,
        entry,
    })
}
