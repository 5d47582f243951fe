//! The pause container's bundle: the pure mapping's spec and what it points at. It starts nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::api;
use crate::document;
use crate::error::{Context, Error, Kind, Result};
use crate::node::{Node, Sandbox};
use crate::oci::{self, Made, SandboxPlace};
use crate::paths;

/// The pause program's name in its root.
const PAUSE: &str = "pause";

/// Writes `config.json` of the pause container.
pub async fn write(node: &Node, sandbox: &Sandbox, netns: Option<PathBuf>) -> Result<Made> {
    let config = config(sandbox);
    let profile = oci::sandbox::seccomp_file(&config)?;
    let seccomp = tokio::task::spawn_blocking(|| read_seccomp(profile)).await;
    let place = SandboxPlace {
        id: sandbox.id.clone(),
        root: node.paths.pause_rootfs(),
        args: vec![format!("/{PAUSE}")],
        netns,
        userns: None,
        seccomp: seccomp.map_err(|error| Error::internal(format!("read a profile: {error}")))??,
    };
    let made = oci::sandbox::spec(&config, &place, &node.host())?;
    write_bundle(&node.paths.bundle(&sandbox.id), &made.config())?;
    Ok(made)
}

/// The sandbox's config with the cgroup parent that is in force.
pub fn config(sandbox: &Sandbox) -> api::PodSandboxConfig {
    let mut config = sandbox.config.clone();
    config.linux.get_or_insert_default().cgroup_parent.clone_from(&sandbox.cgroup_parent);
    config
}

/// Whether the pod has a user namespace of its own.
pub fn has_user_namespace(config: &api::PodSandboxConfig) -> bool {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let userns = context.and_then(|context| context.namespace_options.as_ref()?.userns_options.as_ref());
    userns.is_some_and(|userns| userns.mode == api::NamespaceMode::Pod as i32)
}

/// The host's ids of the pod's root: 0 and 0 without a user namespace.
pub fn root_of(config: &api::PodSandboxConfig) -> (u32, u32) {
    if !has_user_namespace(config) {
        return (0, 0);
    }
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let userns = context.and_then(|context| context.namespace_options.as_ref()?.userns_options.as_ref());
    let first =
        |ids: &[api::IdMapping]| ids.iter().find(|map| map.container_id == 0).map_or(0, |map| map.host_id);
    userns.map_or((0, 0), |userns| (first(&userns.uids), first(&userns.gids)))
}

/// Writes a bundle: `config.json`, and the empty directory that the root filesystem is mounted at.
pub fn write_bundle(bundle: &Path, config: &oci::Config<'_>) -> Result<()> {
    paths::own_dir(bundle)?;
    paths::own_dir(&bundle.join("rootfs"))?;
    let path = bundle.join("config.json");
    let text = serde_json::to_vec(config).what(|| format!("serialize {}", path.display()))?;
    // It has the environment.
    paths::write_own(&path, &text)
}

/// Reads a Localhost profile. Blocks.
pub fn read_seccomp(path: Option<PathBuf>) -> Result<Option<Vec<u8>>> {
    let Some(path) = path else { return Ok(None) };
    match document::read(&path, document::MOST) {
        Err(error) if error.kind() == Kind::NotFound => {
            Err(Error::not_found(format!("seccomp profile {} does not exist", path.display())))
        }
        text => text.what(|| "seccomp profile").map(Some),
    }
}

/// Writes the pause program where all pods find it.
pub fn install_pause(root: &Path) -> Result<()> {
    if let Some(above) = root.parent() {
        paths::own_dir(above)?;
    }
    // The pause process is nobody: it may pass here, once it is here.
    for dir in [root.to_owned(), root.join("proc"), root.join("dev")] {
        paths::host_dir(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))
            .what(|| format!("set the mode of {}", dir.display()))?;
    }
    let path = root.join(PAUSE);
    let program = shim::pause::PROGRAM;
    if std::fs::read(&path).is_ok_and(|there| there == program) {
        return Ok(());
    }
    // By rename: a pause process of an earlier version may be running from the old file.
    let beside = root.join("pause.new");
    std::fs::write(&beside, program).what(|| format!("write {}", beside.display()))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755))
        .what(|| format!("set the mode of {}", beside.display()))?;
    std::fs::rename(&beside, &path).what(|| format!("rename {} to {}", beside.display(), path.display()))
}
