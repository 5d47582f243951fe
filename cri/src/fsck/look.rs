//! What there is, against what the records say. It changes nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Finding;
use crate::config::Config;
use crate::error::{Context, Result};
use crate::host;
use crate::image::Store;
use crate::image::unpack::Cancel;
use crate::network::Network;
use crate::oci;
use crate::paths::Paths;
use crate::record::{ContainerMeta, SandboxMeta, file};

/// What the records name.
struct Known {
    sandboxes: BTreeSet<String>,
    containers: BTreeSet<String>,
    /// The cgroups that hold pods.
    parents: BTreeSet<String>,
}

/// All findings, the running ones first.
pub fn all(config: &Config) -> Result<Vec<Finding>> {
    let paths = Paths::new(config);
    let mut found = Vec::new();
    let known = records(&paths, &mut found);
    for id in names(&paths.runtime_root()).into_iter().filter(|id| !known.has(id)) {
        found.push(Finding::Container(id));
    }
    mounts(&paths, &known, &mut found)?;
    for dir in ["pods", "bundles"] {
        let dir = paths.state.join(dir);
        found.extend(
            names(&dir).iter().filter(|id| !known.has(id)).map(|id| Finding::Directory(dir.join(id))),
        );
    }
    network(config, &paths, &known, &mut found)?;
    cgroups(&known, &mut found);
    if paths.images().exists() {
        let store = Store::open(&paths.images(), &config.registry)?;
        found.extend(store.check(&Cancel::default())?.into_iter().map(Finding::Image));
    }
    Ok(found)
}

impl Known {
    fn has(&self, id: &str) -> bool {
        self.sandboxes.contains(id) || self.containers.contains(id)
    }
}

fn records(paths: &Paths, found: &mut Vec<Finding>) -> Known {
    let mut known =
        Known { sandboxes: BTreeSet::new(), containers: BTreeSet::new(), parents: BTreeSet::new() };
    known.parents.insert(oci::OWN_PARENT.to_owned());
    for id in names(&paths.sandbox_records()) {
        let dir = paths.sandbox_record(&id);
        match file::read::<SandboxMeta>(&dir.join("meta")).filter(|meta| meta.content.id == id) {
            Some(meta) => {
                known.parents.insert(meta.content.cgroup_parent);
                known.sandboxes.insert(id);
            }
            None => found.push(Finding::Torn(dir)),
        }
    }
    for id in names(&paths.container_records()) {
        let dir = paths.container_record(&id);
        match file::read::<ContainerMeta>(&dir.join("meta")).filter(|meta| meta.content.id == id) {
            Some(meta) if known.sandboxes.contains(&meta.content.sandbox) => _ = known.containers.insert(id),
            Some(_) => found.push(Finding::Orphan(id)),
            None => found.push(Finding::Torn(dir)),
        }
    }
    known
}

/// Mounts below a directory that bears an id.
fn mounts(paths: &Paths, known: &Known, found: &mut Vec<Finding>) -> Result<()> {
    let places = [paths.state.join("pods"), paths.state.join("bundles"), paths.container_records()];
    for point in host::Mounts::read()?.points() {
        let below = places.iter().find_map(|place| point.strip_prefix(place).ok());
        let id = below.and_then(|below| below.iter().next()?.to_str());
        if id.is_some_and(|id| !known.has(id)) {
            found.push(Finding::Mount(point.to_owned()));
        }
    }
    Ok(())
}

fn network(config: &Config, paths: &Paths, known: &Known, found: &mut Vec<Finding>) -> Result<()> {
    if paths.network().exists() {
        let given = Network::open(&config.cni, &paths.network())?.pods();
        found.extend(given.into_iter().filter(|id| !known.sandboxes.contains(id)).map(Finding::Network));
    }
    let bound = names(Path::new("/run/netns")).into_iter();
    let unknown: Vec<String> =
        bound.filter(|name| name.strip_prefix("rt-").is_some_and(|id| !known.has(id))).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let inhabited = inhabited();
    for name in unknown {
        let path = Path::new("/run/netns").join(&name);
        let place = std::fs::metadata(&path).what(|| format!("look at {}", path.display()))?;
        // Another server's pod has a process in it.
        if !inhabited.contains(&place.ino()) {
            found.push(Finding::Namespace(path.display().to_string()));
        }
    }
    Ok(())
}

/// The network namespaces of all processes.
fn inhabited() -> BTreeSet<u64> {
    let processes =
        names(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let namespace = |pid: String| Some(std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino());
    processes.filter_map(namespace).collect()
}

/// Empty cgroups with the name of a container, where pods are.
fn cgroups(known: &Known, found: &mut Vec<Finding>) {
    let Some(mount) = host::cgroup_mount() else { return };
    for parent in &known.parents {
        let dir = mount.join(parent.trim_start_matches('/'));
        for id in names(&dir).into_iter().filter(|id| is_id(id) && !known.has(id)) {
            let cgroup = dir.join(id);
            if is_deserted(&cgroup) {
                found.push(Finding::Cgroup(cgroup));
            }
        }
    }
}

/// As `paths::new_id` makes them.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether no process is in it or below.
fn is_deserted(cgroup: &Path) -> bool {
    std::fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|text| text.contains("populated 0"))
}

/// The names in a directory, in order; none where there is none.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_other_names() {
        assert!(is_id(&"0a".repeat(32)));
        for other in ["", "kubepods", &"0a".repeat(31), &"0g".repeat(32)] {
            assert!(!is_id(other), "{other}");
        }
    }
}
