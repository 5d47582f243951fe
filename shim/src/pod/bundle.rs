//! What the shim reads and changes in a bundle's config.json: the user, and the root file system's mounts. All else is `rt`'s.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::RootfsMount;
use crate::error::{Context, Error, Result};

/// The field in which `rt` looks for the mounts of a root file system.
const ROOTFS: &str = "run.rt.rootfs";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    process: Option<Process>,
    linux: Option<Linux>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Process {
    user: Option<User>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    uid_mappings: Option<Vec<Mapping>>,
    gid_mappings: Option<Vec<Mapping>>,
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

impl Config {
    /// What is needed of it.
    pub fn read(bundle: &Path) -> Result<Self> {
        let (path, text) = text(bundle)?;
        serde_json::from_slice(&text).map_err(|error| Error::invalid(format!("read {path}: {error}")))
    }

    /// The processes whose namespaces it joins by their numbers, as `/proc/PID/ns/pid`.
    pub fn joins(&self) -> BTreeSet<u32> {
        let namespaces = self.linux.iter().flat_map(|linux| linux.namespaces.iter().flatten());
        let paths = namespaces.filter_map(|namespace| namespace.path.as_deref());
        paths
            .filter_map(|path| path.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok())
            .collect()
    }

    /// Of the container's process, as the host sees it.
    pub fn user(&self) -> (u32, u32) {
        let user = self.process.as_ref().and_then(|process| process.user).unwrap_or_default();
        self.on_host(user)
    }

    /// Of a process as JSON in this container.
    pub fn user_of(&self, process: &Value) -> (u32, u32) {
        let id = |name| process.pointer(name).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let user = User { uid: id("/user/uid").unwrap_or(0), gid: id("/user/gid").unwrap_or(0) };
        self.on_host(user)
    }

    fn on_host(&self, user: User) -> (u32, u32) {
        let Some(linux) = &self.linux else { return (user.uid, user.gid) };
        (on_host(linux.uid_mappings.as_deref(), user.uid), on_host(linux.gid_mappings.as_deref(), user.gid))
    }
}

/// An id that isn't mapped is `rt`'s to refuse.
fn on_host(mappings: Option<&[Mapping]>, id: u32) -> u32 {
    let within = |mapping: &Mapping| {
        let offset = id.checked_sub(mapping.container_id).filter(|offset| *offset < mapping.size)?;
        mapping.host_id.checked_add(offset)
    };
    mappings.unwrap_or_default().iter().find_map(within).unwrap_or(id)
}

/// Writes the bundle's config with these mounts as its root file system to `path`.
pub fn with_rootfs(bundle: &Path, mounts: &[RootfsMount], path: &Path) -> Result<()> {
    let (name, text) = text(bundle)?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|error| Error::invalid(format!("read {name}: {error}")))?;
    let list: Vec<Value> = mounts
        .iter()
        .map(|mount| json!({"type": mount.kind, "source": mount.source, "options": mount.options}))
        .collect();
    let Value::Object(fields) = &mut config else {
        return Err(Error::invalid(format!("read {name}: it is no object")));
    };
    fields.insert(ROOTFS.into(), list.into());
    std::fs::write(path, config.to_string()).what(|| format!("write {}", path.display()))
}

fn text(bundle: &Path) -> Result<(String, Vec<u8>)> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).what(|| format!("read {}", path.display()))?;
    Ok((path.display().to_string(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_joins_those_that_its_namespaces_paths_name() {
        let config: Config = serde_json::from_value(json!({"linux": {"namespaces": [
            {"type": "mount"}, {"type": "pid", "path": "/proc/12/ns/pid"}, {"type": "ipc", "path": "/proc/7/ns/ipc"},
            {"type": "user", "path": "/proc/7/ns/user"}, {"type": "network", "path": "/run/netns/x"},
        ]}}))
        .unwrap();
        assert_eq!(config.joins(), BTreeSet::from([7, 12]));
    }

    #[test]
    fn ids_are_those_of_the_host() {
        let config: Config = serde_json::from_value(json!({
            "process": {"user": {"uid": 5, "gid": 7}},
            "linux": {"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 5}, {"containerID": 5, "hostID": 9, "size": 1}]}
        }))
        .unwrap();
        assert_eq!(config.user(), (9, 7));
        assert_eq!(config.user_of(&json!({"user": {"uid": 4}})), (1004, 0));
        assert_eq!(Config::default().user(), (0, 0));
    }

    #[test]
    fn mounts_become_a_field() {
        let dir = std::env::temp_dir().join(format!("shim-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mounts =
            [RootfsMount { kind: "overlay".into(), source: "o".into(), options: vec!["a=b".into()] }];
        for before in [r#"{"x":1}"#, r#"{"x":1,"run.rt.rootfs":null}"#, r#"{"x":1,"run.rt.rootfs":[{}]}"#] {
            std::fs::write(dir.join("config.json"), before).unwrap();
            with_rootfs(&dir, &mounts, &dir.join("new")).unwrap();
            let new: Value = serde_json::from_slice(&std::fs::read(dir.join("new")).unwrap()).unwrap();
            assert_eq!(new[ROOTFS], json!([{"type": "overlay", "source": "o", "options": ["a=b"]}]));
            assert_eq!(new["x"], 1);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
