//! Images: pulled from registries, verified, unpacked into overlayfs layers, kept durably, listed and removed.
//!
//! It runs no container and mounts nothing; what containers use of the store is told to it by its callers.

mod archive;
mod blocking;
pub mod command;
pub mod commands;
pub mod config;
pub mod digest;
mod fit;
mod flights;
mod incoming;
mod layer;
pub mod manifest;
pub mod merged;
#[cfg(test)]
pub(crate) mod mutations;
mod policy;
pub mod progress;
mod pull;
pub mod reference;
pub mod registry;
pub mod service;
mod slots;
pub mod store;
pub mod unpack;
pub mod users;
pub mod userspec;

pub use config::RegistryConfig;
pub use digest::Digest;
pub use reference::Reference;
pub use registry::Credentials;
pub use store::Store;
pub use users::Users;
pub use userspec::{Principal, UserSpec};

use oci_spec::image::ImageConfiguration;
use std::path::PathBuf;

/// An image of the store, complete and on disk. Immutable: a tag that moves makes new values.
#[derive(Debug, Clone)]
pub struct Image {
    /// `sha256:…`, the digest of the config.
    pub id: String,
    /// `docker.io/library/busybox:1.36`, sorted.
    pub repo_tags: Vec<String>,
    /// `docker.io/library/busybox@sha256:…`, sorted.
    pub repo_digests: Vec<String>,
    /// Compressed layers, config and manifest, in bytes: what a registry would send.
    pub size: u64,
    /// The image's config.
    pub config: ImageConfiguration,
    /// The config as the registry sent it.
    pub config_json: String,
    /// The layers' root directories for overlayfs, lowest first.
    pub layers: Vec<PathBuf>,
    /// Never removed by the kubelet's garbage collection.
    pub pinned: bool,
}

impl Image {
    /// Of `/etc/passwd` and `/etc/group` what concerns who a container should run as: names or ids. Blocks.
    pub fn users(&self, asked: &[&str], cancel: &unpack::Cancel) -> crate::error::Result<Users> {
        let own =
            self.config.config().as_ref().and_then(|config| config.user().as_deref()).unwrap_or_default();
        let asked: Vec<&str> = asked.iter().copied().chain([own]).collect();
        merged::Merged::open(&self.layers, cancel)?.users(&asked)
    }
}
