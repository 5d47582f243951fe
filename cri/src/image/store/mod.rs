//! The store of images on disk: what is there, in memory; what changes, durably.
//!
//! It asks no registry itself (`pull` does) and extracts nothing (`unpack` does).

use crate::error::{Error, Result};
use crate::image::{Image, RegistryConfig};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Where a pull's credentials come from, in the words of CRI's AuthConfig; empty fields are absent ones.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Its password.
    pub password: String,
    /// base64 of `user:password`.
    pub auth: String,
    /// The host these are for, where given: they go to no other.
    pub server_address: String,
    /// An OAuth refresh token.
    pub identity_token: String,
    /// A bearer token, sent as it is.
    pub registry_token: String,
}

/// Space that the store takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// A directory of the filesystem that holds it.
    pub mountpoint: std::path::PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// The images of one root directory. One process at a time has it.
pub struct Store {}

impl Store {
    /// Opens or makes the store in `root`, takes its lock and removes what a crash left behind.
    pub fn open(root: &Path, _config: &RegistryConfig) -> Result<Arc<Self>> {
        Err(Error::unsupported(format!("open image store {}: not there yet", root.display())))
    }

    /// The image that a reference, an id or the beginning of an id (3 digits at least, of one image only) names.
    pub fn find(&self, _name: &str) -> Option<Arc<Image>> {
        None
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }

    /// Brings the image here. Dropping the future cancels what no other caller waits for.
    pub async fn pull(&self, reference: &str, _credentials: Option<Credentials>) -> Result<Arc<Image>> {
        Err(Error::unsupported(format!("pull {reference}: not there yet")))
    }

    /// Forgets all tags and digests of the image that `name` names, and removes it with its layers; what is not there is no error.
    /// Layers of images in `in_use` (ids) stay until `collect` is told that they are free.
    pub fn remove(&self, _name: &str, _in_use: &HashSet<String>) -> Result<()> {
        Ok(())
    }

    /// Removes what was kept only for containers that are gone.
    pub fn collect(&self, _in_use: &HashSet<String>) -> Result<()> {
        Ok(())
    }

    /// Space taken by all layers.
    pub fn fs_usage(&self) -> Usage {
        Usage::default()
    }
}
