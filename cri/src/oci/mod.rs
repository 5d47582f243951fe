//! From a CRI request, an image's config and what the host can do to an OCI spec. Pure: no system calls, no files; what the host
//! says comes in as a [`Host`], what the server has found or made as a place.

mod annotations;
mod capabilities;
mod cdi;
mod cgroup;
pub mod container;
pub mod degraded;
mod devices;
mod empty;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod host;
mod lsm;
mod mounts;
#[cfg(test)]
mod mutations;
pub mod namespaces;
pub mod place;
mod process;
pub mod resources;
mod rootfs;
pub mod sandbox;
mod seccomp;
mod sysctl;
#[cfg(test)]
mod testing;
pub mod user;

use oci_spec::runtime::Spec;

use serde::Serialize;
use serde_json::Value;

use crate::api;
pub use capabilities::DEFAULT as DEFAULT_CAPABILITIES;
pub use cgroup::OWN_PARENT;
pub use degraded::Degraded;
pub use host::{AppArmor, DEFAULT_PROFILE, Driver, Host, Node, NodeKind};
pub use place::{ContainerPlace, ImageVolume, SandboxFacts, SandboxPlace, Source, SourcePropagation};
pub use process::PATH;

/// `config.json`.
#[derive(Serialize)]
pub struct Config<'a> {
    #[serde(flatten)]
    spec: &'a Spec,
    // No annotation: nobody who fills annotations chooses a root filesystem.
    #[serde(rename = "run.rt.rootfs")]
    rootfs: &'a Value,
}

impl Made {
    /// All that is written for `rt`.
    pub fn config(&self) -> Config<'_> {
        Config { spec: &self.spec, rootfs: &self.rootfs }
    }
}

/// A spec and what its maker has to say about it.
#[derive(Debug, Clone)]
pub struct Made {
    /// `config.json`, as far as it is the specification's.
    pub spec: Spec,
    /// What `rt` mounts the root filesystem from.
    pub rootfs: Value,
    /// The identities of the first process, for `ContainerStatus.user`.
    pub user: api::LinuxContainerUser,
    /// What was asked for and is not as asked for: to be shown, never silent.
    pub degraded: Vec<Degraded>,
}
