//! Where things are under containerd: the shim's directory, the runtime's root, the socket, the runtime's program.
//!
//! Makes nothing. Under rt-cri all of these are arguments.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};

/// containerd's usual state directory.
const STATE: &str = "/run/containerd";

/// Annotations that say to which pod a container belongs, the first that is there.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// The places of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The pod: the sandbox, or the lone container.
    pub group: String,
    /// The shim's own directory.
    pub dir: PathBuf,
    /// The runtime's `--root`.
    pub rt_root: PathBuf,
    /// The shim's socket.
    pub socket: PathBuf,
}

impl Place {
    /// Finds out from a container's bundle. `socket_dir`: where containerd wants the socket, if it said so.
    ///
    /// # Errors
    /// The bundle's config.json can't be read.
    pub fn of(bundle: &Path, namespace: &str, id: &str, socket_dir: Option<&str>) -> Result<Self> {
        let group = group(bundle)?.unwrap_or_else(|| id.to_owned());
        Ok(Self::named(&state_dir(bundle), namespace, group, socket_dir))
    }

    /// The places of a container that is its own pod, for want of a config that says otherwise.
    pub fn of_lone(bundle: &Path, namespace: &str, id: &str) -> Self {
        Self::named(&state_dir(bundle), namespace, id.to_owned(), None)
    }

    fn named(state: &Path, namespace: &str, group: String, socket_dir: Option<&str>) -> Self {
        let sockets = socket_dir.map_or_else(|| Path::new(STATE).join("s"), PathBuf::from);
        // The name has to be short (a socket's path has 107 bytes at most), and no other state directory's.
        let mut hash = Sha256::new();
        for part in [b"rt", state.as_os_str().as_bytes(), namespace.as_bytes(), group.as_bytes()] {
            hash.update(part);
            hash.update([0]);
        }
        let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self {
            dir: state.join("rt-shim").join(namespace).join(&group),
            rt_root: state.join("rt").join(namespace),
            socket: sockets.join(name),
            group,
        }
    }
}

/// `STATE/io.containerd.runtime.v2.task/NAMESPACE/ID` is where containerd puts bundles.
fn state_dir(bundle: &Path) -> PathBuf {
    let task = bundle.ancestors().nth(2);
    let known =
        task.filter(|task| task.file_name().is_some_and(|name| name == "io.containerd.runtime.v2.task"));
    known.and_then(Path::parent).map_or_else(|| STATE.into(), Path::to_owned)
}

/// The pod that a container's annotations name.
fn group(bundle: &Path) -> Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: Option<std::collections::HashMap<String, String>>,
    }
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).what(|| format!("read {}", path.display()))?;
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| Error::invalid(format!("read {}: {error}", path.display())))?;
    let annotations = config.annotations.unwrap_or_default();
    let group = GROUPS.iter().find_map(|name| annotations.get(*name)).cloned();
    match group {
        Some(group) if !plain(&group) => {
            Err(Error::invalid(format!("group a container with {group:?}: it becomes part of a path")))
        }
        group => Ok(group),
    }
}

/// Whether a name can be one part of a path.
pub fn plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name.len() < 200 && !name.contains(['/', '\0'])
}

/// The runtime's program: what was asked for, or `rt` beside this program, or in PATH.
///
/// # Errors
/// NotFound, with the places that were looked at.
pub fn runtime_program(asked: &Path) -> Result<PathBuf> {
    if asked.is_absolute() {
        return if asked.exists() {
            Ok(asked.to_owned())
        } else {
            Err(Error::not_found(format!("find the runtime {}", asked.display())))
        };
    }
    let name = if asked.as_os_str().is_empty() { Path::new("rt") } else { asked };
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    beside.into_iter().chain(in_path).find(|candidate| candidate.is_file()).ok_or_else(|| {
        Error::not_found(format!("find the runtime {}: neither beside the shim nor in PATH", name.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_places_follow_from_the_bundle() {
        let bundle = Path::new("/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1");
        let place = Place::of_lone(bundle, "k8s.io", "c1");
        assert_eq!(place.dir, Path::new("/run/containerd/rt-shim/k8s.io/c1"));
        assert_eq!(place.rt_root, Path::new("/run/containerd/rt/k8s.io"));
        assert!(place.socket.as_os_str().len() < 60, "{}", place.socket.display());
        let other =
            Place::of_lone(Path::new("/tmp/x/io.containerd.runtime.v2.task/k8s.io/c1"), "k8s.io", "c1");
        assert_eq!(other.rt_root, Path::new("/tmp/x/rt/k8s.io"));
        assert_ne!(other.socket, place.socket);
        assert_eq!(Place::of_lone(Path::new("/b"), "n", "c").rt_root, Path::new("/run/containerd/rt/n"));
    }

    #[test]
    fn a_containers_annotations_name_its_pod() {
        let bundle = std::env::temp_dir().join(format!("shim-place.{}", std::process::id()));
        std::fs::create_dir_all(&bundle).expect("a bundle");
        let of = |config: &str| {
            std::fs::write(bundle.join("config.json"), config).expect("a config");
            Place::of(&bundle, "n", "c1", Some("/s")).map(|place| place.group)
        };
        assert_eq!(
            of(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#).ok().as_deref(),
            Some("pod")
        );
        assert_eq!(of(r#"{"annotations":null}"#).ok().as_deref(), Some("c1"));
        assert!(of(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"../x"}}"#).is_err());
        assert!(of("{").is_err());
        std::fs::remove_dir_all(&bundle).expect("removed");
    }
}
