//! `rt-cri fsck`: what is there though no pod has it, and what is broken; and its removal. The server must not run, pods may: what is of a
//! whole record is left alone, whatever its state. What a start of the server would undo by itself is found here too.

mod look;
mod repair;

use std::fmt;
use std::path::PathBuf;

use crate::config::Config;
use crate::error::Result;
use crate::image::store::Flaw;
use crate::server::lock;

/// One thing that should not be as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A record that can't be read: nothing is known of its object.
    Torn(PathBuf),
    /// A container's record whose sandbox has none.
    Orphan(String),
    /// A container of the runtime that no record has; it may run.
    Container(String),
    /// A mount below the server's directories.
    Mount(PathBuf),
    /// A directory of a pod or a bundle.
    Directory(PathBuf),
    /// Addresses, ports and interfaces of a pod.
    Network(String),
    /// A network namespace, without a process in it.
    Namespace(String),
    /// A cgroup, without a process in it.
    Cgroup(PathBuf),
    /// An image or a layer.
    Image(Flaw),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn(path) => write!(f, "record {} is torn", path.display()),
            Self::Orphan(id) => write!(f, "container {id} has no sandbox"),
            Self::Container(id) => write!(f, "container {id} of the runtime has no record"),
            Self::Mount(path) => write!(f, "mount {} is of no pod", path.display()),
            Self::Directory(path) => write!(f, "directory {} is of no pod", path.display()),
            Self::Network(id) => write!(f, "network of sandbox {id}, which does not exist"),
            Self::Namespace(path) => write!(f, "network namespace {path} is of no pod, and nobody is in it"),
            Self::Cgroup(path) => write!(f, "cgroup {} is of no pod, and nobody is in it", path.display()),
            Self::Image(flaw) => write!(f, "image store: {flaw}"),
        }
    }
}

/// Looks at everything that the server with this configuration would have. It changes nothing but an unfinished pull's files.
pub fn look(config: &Config) -> Result<Vec<Finding>> {
    crate::paths::own_dir(&config.state)?;
    let _lock = lock(&config.state)?;
    look::all(config)
}

/// Removes what was found, the running first. All is tried; what could not be removed is told, and the first error returned.
pub fn repair(config: &Config, found: &[Finding]) -> Result<()> {
    let _lock = lock(&config.state)?;
    repair::all(config, found)
}
