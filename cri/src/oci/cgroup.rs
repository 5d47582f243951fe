//! Where a sandbox's and a container's cgroup is: `linux.cgroupsPath` in the form of the driver. It makes none.

use super::Driver;
use crate::error::{Error, Result};

/// Where pods go that come without a parent, below the cgroup2 mount.
pub const OWN_PARENT: &str = "/rt";

/// `cgroup_parent` and an id → `cgroupsPath`.
pub fn path(parent: &str, id: &str, driver: Driver) -> Result<String> {
    if parent.split('/').any(|part| part == "..") {
        return Err(invalid(parent, "it holds \"..\""));
    }
    if parent.contains(['\0', '\n', ':']) {
        return Err(invalid(parent, "it holds a character that no cgroup's name has"));
    }
    match driver {
        Driver::Cgroupfs => {
            let parent = parent.trim_end_matches('/');
            let parent = if parent.is_empty() { OWN_PARENT } else { parent };
            Ok(format!("{}{parent}/{id}", if parent.starts_with('/') { "" } else { "/" }))
        }
        Driver::Systemd => {
            let slice = parent.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let slice = if slice.is_empty() { "system.slice" } else { slice };
            if !slice.ends_with(".slice") {
                return Err(invalid(parent, "it is no slice, and systemd makes the cgroups here").cure(
                    "set the kubelet's cgroupDriver to systemd, or the server's [cgroup] driver to cgroupfs",
                ));
            }
            Ok(format!("{slice}:rt:{id}"))
        }
    }
}

fn invalid(parent: &str, why: &str) -> Error {
    Error::invalid(format!("cgroup_parent {parent:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_drivers() {
        for (parent, cgroupfs, systemd) in [
            ("", "/rt/x", "system.slice:rt:x"),
            ("/kubepods/besteffort/pod1", "/kubepods/besteffort/pod1/x", ""),
            ("kubepods/", "/kubepods/x", ""),
            (
                "/kubepods.slice/kubepods-pod1.slice",
                "/kubepods.slice/kubepods-pod1.slice/x",
                "kubepods-pod1.slice:rt:x",
            ),
            ("kubepods-pod1.slice", "/kubepods-pod1.slice/x", "kubepods-pod1.slice:rt:x"),
        ] {
            assert_eq!(path(parent, "x", Driver::Cgroupfs).unwrap(), cgroupfs);
            assert_eq!(path(parent, "x", Driver::Systemd).unwrap_or_default(), systemd);
        }
    }

    #[test]
    fn parents_that_lead_elsewhere_are_refused() {
        for (parent, driver, message) in [
            ("/a/../b", Driver::Cgroupfs, "cgroup_parent \"/a/../b\": it holds \"..\""),
            (
                "a:b",
                Driver::Cgroupfs,
                "cgroup_parent \"a:b\": it holds a character that no cgroup's name has",
            ),
            (
                "/kubepods/pod1",
                Driver::Systemd,
                "cgroup_parent \"/kubepods/pod1\": it is no slice, and systemd makes the cgroups here (set the kubelet's cgroupDriver to systemd, or the server's [cgroup] driver to cgroupfs)",
            ),
        ] {
            assert_eq!(path(parent, "x", driver).unwrap_err().to_string(), message);
        }
    }
}
