//! From a CRI request, an image's config and what the host can do to an OCI spec. Pure: no system calls, no files; what the host
//! says comes in as a [`Host`], what the server has found or made as a place.

pub mod container;
pub mod degraded;
pub mod host;
pub mod place;
pub mod resources;
pub mod sandbox;
pub mod user;

use oci_spec::runtime::Spec;

use crate::api;
pub use degraded::Degraded;
pub use host::{AppArmor, Driver, Host, Node, NodeKind};
pub use place::{ContainerPlace, ImageVolume, SandboxFacts, SandboxPlace, Source, SourcePropagation};

/// A spec and what its maker has to say about it.
#[derive(Debug, Clone)]
pub struct Made {
    /// `config.json`.
    pub spec: Spec,
    /// The identities of the first process, for `ContainerStatus.user`.
    pub user: api::LinuxContainerUser,
    /// What was asked for and is not as asked for: to be shown, never silent.
    pub degraded: Vec<Degraded>,
}
