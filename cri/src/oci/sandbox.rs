//! The spec of a sandbox's pause process, which holds the pod's namespaces. It makes no namespaces that rt doesn't make.

use std::path::PathBuf;

use super::{Host, Made, SandboxPlace};
use crate::api;
use crate::error::{Error, Result};

/// Makes the spec.
pub fn spec(config: &api::PodSandboxConfig, place: &SandboxPlace, host: &Host) -> Result<Made> {
    let _ = (config, host);
    Err(Error::unsupported(format!("make the spec of sandbox {}", place.id)))
}

/// The file of a Localhost seccomp profile, to be read before.
pub fn seccomp_file(config: &api::PodSandboxConfig) -> Result<Option<PathBuf>> {
    let _ = config;
    Ok(None)
}
