//! `--share`: the config of a container that lives in the namespaces of another one.
//!
//! It rewrites the spec before it is planned, and the plan where the spec has no words for it. It does not look for the other
//! container: that is [`crate::ops::share`].

use std::path::Path;

use super::Plan;
use super::mount_options::Options;
use super::mounts::{Content, Mount};
use super::namespaces::Kind;
use super::sysctl;
use crate::error::{Error, Result};
use crate::spec::{Linux, Namespace, Spec};

/// Where POSIX shared memory is.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// Whose namespaces are joined, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharing {
    /// The container that has them.
    pub with: String,
    /// Its init.
    pub pid: i32,
    /// To join; the user namespace among them if that container has one.
    pub namespaces: Vec<Kind>,
}

impl Sharing {
    /// Names the namespaces to join, and takes out what is theirs and not the new container's to set. Gives warnings.
    pub fn rewrite(&self, spec: &mut Spec) -> Vec<String> {
        let mut warnings = Vec::new();
        let linux = spec.linux.get_or_insert_with(Linux::default);
        for kind in &self.namespaces {
            warnings.extend(self.join(*kind, linux));
        }
        if self.namespaces.contains(&Kind::Uts) {
            for (field, word) in [("hostname", &mut spec.hostname), ("domainname", &mut spec.domainname)] {
                if let Some(word) = word.take().filter(|word| !word.is_empty()) {
                    warnings.push(self.theirs(&format!("{field} {word:?}"), Kind::Uts));
                }
            }
        }
        if let Some(all) = &mut linux.sysctl {
            all.retain(|name, _| {
                match sysctl::owner_of(name).filter(|kind| self.namespaces.contains(kind)) {
                    Some(kind) => {
                        warnings.push(self.theirs(&format!("linux.sysctl {name:?}"), kind));
                        false
                    }
                    None => true,
                }
            });
        }
        warnings
    }

    fn join(&self, kind: Kind, linux: &mut Linux) -> Option<String> {
        let path = self.path(kind);
        let entry = linux.namespaces.iter_mut().find(|entry| entry.kind == kind.name());
        let given = entry.as_ref().and_then(|entry| entry.path.clone()).filter(|path| !path.is_empty());
        let warning = match (kind, given) {
            // The config knows which one, as engines' do.
            (Kind::User, Some(_)) => return None,
            (Kind::User, None) => Some(format!(
                "container {:?} has a user namespace: it is joined, with its mappings",
                self.with
            )),
            (_, Some(given)) if given != path => {
                Some(self.theirs(&format!("the path {given:?} in linux.namespaces"), kind))
            }
            _ => None,
        };
        match entry {
            Some(entry) => entry.path = Some(path),
            None => linux.namespaces.push(Namespace { kind: kind.name().to_owned(), path: Some(path) }),
        }
        warning
    }

    /// What stands for one of its namespaces.
    pub fn path(&self, kind: Kind) -> String {
        format!("/proc/{}/ns/{}", self.pid, kind.proc_name())
    }

    fn theirs(&self, what: &str, kind: Kind) -> String {
        format!("{what} is ignored: the {} namespace is shared with container {:?}", kind.name(), self.with)
    }

    /// With the IPC namespace goes /dev/shm, instead of the container's own.
    pub fn share_memory(&self, plan: &mut Plan) -> Result<()> {
        if !self.namespaces.contains(&Kind::Ipc) {
            return Ok(());
        }
        if !plan.task.namespaces.makes(Kind::Mount) {
            return Err(Error::invalid(format!(
                "share {SHARED_MEMORY} with container {:?}: it needs a new mount namespace",
                self.with
            ))
            .cure("add {\"type\": \"mount\"} to linux.namespaces, or leave ipc out of --share"));
        }
        let mounts = &mut plan.surroundings.mounts;
        let target = Path::new(SHARED_MEMORY);
        let content = Content::Lent { by: self.with.clone() };
        match mounts.iter_mut().rfind(|mount| mount.target == target) {
            Some(own) => {
                // What is the file system's own was said when that container was made.
                let Options { attributes, recursive_attributes, propagation, .. } =
                    std::mem::take(&mut own.options);
                own.options = Options { attributes, recursive_attributes, propagation, ..Options::default() };
                (own.content, own.idmap) = (content, None);
            }
            None => {
                let options = Options::default();
                mounts.push(Mount { target: target.to_owned(), content, options, idmap: None });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(namespaces: &[Kind]) -> Sharing {
        Sharing { with: "pause".into(), pid: 77, namespaces: namespaces.to_vec() }
    }

    fn spec(more: &serde_json::Value) -> Spec {
        let mut config = serde_json::json!({
            "ociVersion": "1.3.0",
            "process": { "args": ["/x"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
            "root": { "path": "rootfs" },
            "mounts": [{ "destination": "/dev/shm", "type": "tmpfs", "options": ["nosuid", "nodev", "size=64k"] }],
            "linux": { "namespaces": [{ "type": "mount" }, { "type": "network" }, { "type": "uts" }] },
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        serde_json::from_value(config).unwrap()
    }

    fn path_of(spec: &Spec, kind: &str) -> Option<String> {
        let all = &spec.linux.as_ref().unwrap().namespaces;
        all.iter().find(|entry| entry.kind == kind).and_then(|entry| entry.path.clone())
    }

    #[test]
    fn namespaces_get_the_paths_of_the_other_containers_init() {
        let mut spec = spec(&serde_json::json!({}));
        assert!(sharing(&[Kind::Network, Kind::Ipc]).rewrite(&mut spec).is_empty());
        assert_eq!(path_of(&spec, "network").as_deref(), Some("/proc/77/ns/net"));
        assert_eq!(path_of(&spec, "ipc").as_deref(), Some("/proc/77/ns/ipc"));
        assert_eq!((path_of(&spec, "uts"), path_of(&spec, "mount")), (None, None));
    }

    #[test]
    fn what_belongs_to_the_shared_namespaces_is_taken_out_and_told() {
        let mut spec = spec(&serde_json::json!({
            "hostname": "box",
            "linux": {
                "namespaces": [{ "type": "network", "path": "/run/netns/a" }],
                "sysctl": { "net.ipv4.ip_forward": "1", "kernel.msgmax": "9" },
            },
        }));
        let warnings = sharing(&[Kind::Network, Kind::Uts]).rewrite(&mut spec);
        let theirs = |what, kind| {
            format!("{what} is ignored: the {kind} namespace is shared with container \"pause\"")
        };
        assert_eq!(
            warnings,
            [
                theirs("the path \"/run/netns/a\" in linux.namespaces", "network"),
                theirs("hostname \"box\"", "uts"),
                theirs("linux.sysctl \"net.ipv4.ip_forward\"", "network"),
            ]
        );
        assert_eq!(spec.hostname, None);
        let left: Vec<_> = spec.linux.unwrap().sysctl.unwrap().into_keys().collect();
        assert_eq!(left, ["kernel.msgmax"]);
    }

    #[test]
    fn a_user_namespace_is_joined_and_told_unless_the_config_names_one() {
        let shares = sharing(&[Kind::User, Kind::Network]);
        let mut silent = spec(&serde_json::json!({}));
        let warnings = shares.rewrite(&mut silent);
        assert_eq!(warnings, ["container \"pause\" has a user namespace: it is joined, with its mappings"]);
        assert_eq!(path_of(&silent, "user").as_deref(), Some("/proc/77/ns/user"));
        let mut named = spec(&serde_json::json!({
            "linux": { "namespaces": [{ "type": "user", "path": "/proc/9/ns/user" }] },
        }));
        assert!(shares.rewrite(&mut named).is_empty());
        assert_eq!(path_of(&named, "user").as_deref(), Some("/proc/9/ns/user"));
    }

    #[test]
    fn shared_memory_takes_the_place_of_the_containers_own() {
        let shares = sharing(&[Kind::Ipc]);
        let mut spec = spec(&serde_json::json!({}));
        shares.rewrite(&mut spec);
        let mut plan = Plan::new("x", Path::new("/bundle"), &spec, None).unwrap();
        shares.share_memory(&mut plan).unwrap();
        let [shm] = &plan.surroundings.mounts[..] else { panic!("one mount") };
        assert_eq!(shm.content, Content::Lent { by: "pause".into() });
        assert!(shm.options.filesystem.is_empty() && shm.options.attributes.set != 0);
        plan.surroundings.mounts.clear();
        shares.share_memory(&mut plan).unwrap();
        assert_eq!(plan.surroundings.mounts[0].target, Path::new(SHARED_MEMORY));
    }
}
