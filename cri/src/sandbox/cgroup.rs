//! The cgroup that a pod's containers are made in: the kubelet's, or one of our own where nobody named one. It sets no limits.

use std::path::Path;

use crate::error::{Error, Result};
use crate::node::{Node, Sandbox};
use crate::oci::Driver;
use crate::table::shown;

/// The cgroup parent of the sandbox `id`, and whether it is ours to remove.
pub fn parent(asked: &str, id: &str, driver: Driver) -> Result<(String, bool)> {
    let is_plain = asked.split('/').all(|part| part != ".." && part != ".");
    if !is_plain || asked.contains(char::is_control) || !super::check::has_entries(asked) {
        return Err(Error::invalid(format!("cgroup_parent {} is no plain path", shown(asked))));
    }
    match driver {
        Driver::Cgroupfs if asked.is_empty() => Ok((format!("/rt/{id}"), true)),
        Driver::Cgroupfs => Ok((format!("/{}", asked.trim_matches('/')), false)),
        Driver::Systemd if asked.is_empty() => Ok(("system.slice".to_owned(), false)),
        Driver::Systemd => {
            let slice = asked.rsplit('/').next().unwrap_or_default();
            if slice.ends_with(".slice") && slice.len() > ".slice".len() {
                return Ok((slice.to_owned(), false));
            }
            Err(Error::invalid(format!("cgroup_parent {} is no systemd slice", shown(asked)))
                .cure("the server's cgroup driver is systemd: the kubelet's must be too"))
        }
    }
}

/// Removes the parent if it is ours and empty: what is still in it is somebody else's.
pub fn remove(node: &Node, sandbox: &Sandbox) {
    if !sandbox.cgroup_parent_is_ours {
        return;
    }
    let Some(mount) = crate::host::cgroup_mount() else { return };
    let path = mount.join(sandbox.cgroup_parent.trim_start_matches('/'));
    remove_tree(&path);
    let _ = node;
}

/// Removes a cgroup and the empty ones below it, as far as nobody is in them.
fn remove_tree(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path());
    }
    if let Err(error) = std::fs::remove_dir(path) {
        tracing::debug!("cgroup {} stays: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_as_the_driver_wants_them() {
        let ours = parent("", "abc", Driver::Cgroupfs).expect("ours");
        assert_eq!(ours, ("/rt/abc".to_owned(), true));
        let kubelets = parent("kubepods/podx/", "abc", Driver::Cgroupfs).expect("path");
        assert_eq!(kubelets, ("/kubepods/podx".to_owned(), false));
        assert_eq!(parent("", "abc", Driver::Systemd).expect("slice").0, "system.slice");
        let slice = parent("/a.slice/a-b.slice", "abc", Driver::Systemd).expect("slice");
        assert_eq!(slice.0, "a-b.slice");
        for (asked, driver) in
            [("/a/../b", Driver::Cgroupfs), ("/kubepods", Driver::Systemd), (".slice", Driver::Systemd)]
        {
            assert!(parent(asked, "abc", driver).is_err(), "{asked}");
        }
    }
}
