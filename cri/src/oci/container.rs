//! A container's spec: CRI's request and the image's config on top of what the pod has. It makes no files; what it points at is in
//! [`ContainerPlace`].

use std::path::PathBuf;

use super::{ContainerPlace, Host, Made, SandboxFacts};
use crate::api;
use crate::error::{Error, Result};
use crate::image::Users;

/// All that a container's spec depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked for.
    pub config: &'a api::ContainerConfig,
    /// The sandbox's own config, from its record.
    pub sandbox_config: &'a api::PodSandboxConfig,
    /// The image.
    pub image: Image<'a>,
    /// Paths and files.
    pub place: &'a ContainerPlace,
    /// The running sandbox.
    pub sandbox: &'a SandboxFacts,
    /// The host.
    pub host: &'a Host,
}

/// The image, as far as a spec depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// A name for annotations.
    pub name: &'a str,
    /// The config object's `config`.
    pub config: Option<&'a oci_spec::image::Config>,
    /// Unpacked layers, lowest first.
    pub layers: &'a [PathBuf],
    /// passwd and group.
    pub users: &'a Users,
}

/// Makes the spec.
pub fn spec(request: &Request<'_>) -> Result<Made> {
    Err(Error::unsupported(format!("make the spec of container {}", request.place.id)))
}

/// Host paths that have to be looked at before: distinct `host_path`s of mounts, in order.
pub fn sources(config: &api::ContainerConfig) -> Vec<&str> {
    let mut paths: Vec<&str> = Vec::new();
    for mount in config.mounts.iter().filter(|mount| mount.image.is_none()) {
        if !paths.contains(&mount.host_path.as_str()) {
            paths.push(&mount.host_path);
        }
    }
    paths
}

/// Mounts of images: index in `mounts`, image, path within it.
pub fn image_mounts(config: &api::ContainerConfig) -> Vec<(usize, &api::ImageSpec, &str)> {
    let mounts = config.mounts.iter().enumerate();
    mounts
        .filter_map(|(at, mount)| {
            mount.image.as_ref().map(|image| (at, image, mount.image_sub_path.as_str()))
        })
        .collect()
}

/// The image's VOLUMEs that no mount of the request covers: directories have to be made for them, filled with what the image
/// has there.
pub fn volumes(config: &api::ContainerConfig, image: Option<&oci_spec::image::Config>) -> Vec<String> {
    let mut volumes = image.and_then(|config| config.volumes().clone()).unwrap_or_default();
    let clean = |path: &str| path.trim_end_matches('/').to_owned();
    volumes.retain(|volume| !config.mounts.iter().any(|mount| clean(&mount.container_path) == clean(volume)));
    volumes.sort();
    volumes
}

/// The file of a Localhost seccomp profile, to be read before.
pub fn seccomp_file(config: &api::ContainerConfig) -> Result<Option<PathBuf>> {
    let _ = config;
    Ok(None)
}
