//! What is stored about a container, and the JSON that `state` and hooks get of it. Reading and writing files is in [`super::dir`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::liveness::ProcessId;
use super::origin::NamespaceId;
use super::status::{Stage, Status};
use crate::id::Id;
use crate::plan::namespaces::Kind as Namespace;
use crate::spec::{self, Annotations, Hooks, IdMapping, Process, Resources};

/// Everything that later commands need. `config.json` is never read again: it may have been changed since.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of the bundle's config.
    pub oci_version: String,
    /// The container's.
    pub id: Id,
    /// How far `create` came.
    pub stage: Stage,
    /// Its first process; set from the moment that it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<ProcessId>,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute, as on the host.
    pub rootfs: PathBuf,
    /// What `delete` has to unmount; absent where all mounts go with the container's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mount: Option<RootMount>,
    /// RFC 3339 with nanoseconds, UTC: [`crate::clock::now`].
    pub created: String,
    /// The user who created it.
    pub owner: u32,
    /// Of the config.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// Absent with `--cgroup-manager=disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupRecord>,
    /// As in the config: new ones have no path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<spec::Namespace>,
    /// The user namespace that it was made in, if that is its own, made or joined. Absent in states of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<NamespaceId>,
    /// Of its user namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Of its user namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Only those that later commands run: poststart (`start`), poststop (`delete`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Whether init runs hooks once it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_hooks: bool,
    /// What `exec` starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Execution domain, which `exec` sets too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<crate::spec::Personality>,
    /// Name, in the container's state directory, of the filter that `exec` loads; see [`super::Container::read_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<String>,
}

/// The root mount of a container that shares its mount namespace with others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootMount {
    /// Of statx(2).
    pub id: u64,
    /// Where it is attached.
    pub path: PathBuf,
    /// In which namespace; absent: in the runtime's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<PathBuf>,
}

/// Where the container's cgroup is and what makes it go away.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupRecord {
    /// Absolute, in the host's cgroup2 mount.
    pub path: PathBuf,
    /// The systemd unit that it belongs to; absent: made by mkdir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The limits in force, which an `update` of some of them starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl Record {
    /// A record as `create` first writes it: stage Creating, nothing known but what was asked for.
    pub fn new(id: Id, bundle: PathBuf, rootfs: PathBuf) -> Self {
        Self {
            oci_version: String::new(),
            id,
            stage: Stage::Creating,
            init: None,
            bundle,
            rootfs,
            root_mount: None,
            created: crate::clock::now(),
            owner: crate::privilege::caller(),
            annotations: Annotations::new(),
            cgroup: None,
            namespaces: Vec::new(),
            user_namespace: None,
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
            hooks: None,
            start_hooks: false,
            process: None,
            personality: None,
            seccomp: None,
        }
    }

    /// Whether it has a namespace of this type that is its own, made or joined.
    pub fn has(&self, kind: Namespace) -> bool {
        self.namespaces.iter().any(|namespace| namespace.kind == kind.name())
    }

    /// Whether a namespace of this type was made for it. Of type pid: init is PID 1 there, and the kernel kills all others with it.
    pub fn has_own(&self, kind: Namespace) -> bool {
        self.namespaces.iter().any(|namespace| namespace.is_new() && namespace.kind == kind.name())
    }

    /// The same of its PID namespace.
    pub fn has_own_pid_namespace(&self) -> bool {
        self.has_own(Namespace::Pid)
    }

    /// The state of runtime.md#state, with the further keys that runc prints. Its owner is empty there: only `list` says it.
    pub fn report(&self, status: Status) -> Report<'_> {
        Report {
            oci_version: &self.oci_version,
            id: &self.id,
            pid: self.pid(status),
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
            owner: String::new(),
        }
    }

    /// What a hook gets on its standard input. SPEC: config.md#posix-platform-hooks, runtime.md#state
    pub fn hook_state(&self, status: Status) -> Vec<u8> {
        let state = HookState {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid: self.pid(status),
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        let mut out = Vec::with_capacity(512);
        // A Vec takes any write, and the types in there have no way to fail.
        let _ = serde_json::to_writer(&mut out, &state);
        out
    }

    fn pid(&self, status: Status) -> i32 {
        match (status, self.init) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some(init)) => init.pid,
        }
    }
}

/// As `state` and `list` print it, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    /// Of the bundle's config.
    pub oci_version: &'a str,
    /// The container's.
    pub id: &'a Id,
    /// 0 without a process.
    pub pid: i32,
    /// At the time of asking.
    pub status: Status,
    /// Absolute.
    pub bundle: &'a Path,
    /// Absolute.
    pub rootfs: &'a Path,
    /// RFC 3339.
    pub created: &'a str,
    /// Left out when there are none.
    #[serde(skip_serializing_if = "is_empty")]
    pub annotations: &'a Annotations,
    /// User name, or `#UID`.
    pub owner: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HookState<'a> {
    oci_version: &'a str,
    id: &'a Id,
    status: Status,
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "is_empty")]
    annotations: &'a Annotations,
}

fn is_empty(annotations: &&Annotations) -> bool {
    annotations.is_empty()
}
