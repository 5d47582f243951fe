//! How registries are reached, and the bounds of what they may send. Values only; it reads no file.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[registry]` of the server's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Directories of `HOST/hosts.toml`, as containerd's; the first that has a file for a host counts.
    pub config_path: Vec<PathBuf>,
    /// A `config.json` as docker's, for requests that bring no credentials; empty: `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: PathBuf,
    /// A `policy.json` as podman's and CRI-O's, which says whose images are taken; empty: everybody's.
    pub policy: PathBuf,
    /// Layers of one registry downloaded and unpacked at a time, over all pulls.
    pub concurrent_layers: usize,
    /// And of all registries.
    pub concurrent_layers_in_all: usize,
    /// Attempts of one request, before the next host is tried.
    pub attempts: u32,
    /// Seconds without a byte after which a download is taken up again.
    pub stall_seconds: u64,
    /// Bytes a second, over `stall_seconds`, below which a registry counts as silent.
    pub least_bytes_per_second: u64,
    /// Keep compressed layers too; `save` needs them.
    pub keep_blobs: bool,
    /// Images that are never garbage: references.
    pub pinned: Vec<String>,
    /// What images may declare and cost.
    pub limits: Limits,
}

/// Bounds of what images may declare and cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one layer, unpacked.
    pub layer_bytes: u64,
    /// Bytes of disk of all layers of an image.
    pub image_bytes: u64,
    /// How many bytes an image may cost for each byte that came, after the first gigabyte.
    pub expansion: u64,
    /// Bytes of the filesystem that are left free, or a twentieth of it where that is less.
    pub free_bytes: u64,
    /// Files, directories, links and devices of one layer.
    pub layer_entries: u64,
    /// Bytes of one entry's path.
    pub path_bytes: usize,
    /// Bytes of a manifest, an index or a config.
    pub document_bytes: usize,
    /// Layers of one image.
    pub layers: usize,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            config_path: vec!["/etc/rt/certs.d".into(), "/etc/containerd/certs.d".into()],
            docker_config: PathBuf::new(),
            policy: PathBuf::new(),
            concurrent_layers: 4,
            concurrent_layers_in_all: 16,
            attempts: 5,
            stall_seconds: 60,
            least_bytes_per_second: 1024,
            keep_blobs: false,
            pinned: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 128 << 30,
            image_bytes: 256 << 30,
            expansion: 200,
            free_bytes: 1 << 30,
            layer_entries: 5_000_000,
            path_bytes: 4096,
            document_bytes: 8 << 20,
            layers: 500,
        }
    }
}
