//! `config.json` as written, runtime-spec 1.3.0. No logic: what it means is decided in [`crate::plan`].
//!
//! Own types and not oci-spec's: that crate refuses unknown capabilities, misnames two scheduler flags, can't tell an absent
//! pids limit from 0, and costs 0.1 ms per start. A test holds both against each other (see `oracle`).
//! As for Go's decoder, `null` means absent, and unknown fields are ignored.

mod list;
mod process;
mod resources;
mod seccomp;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use list::List;
pub use process::*;
pub use resources::*;
pub use seccomp::*;

/// The newest version of the specification that is understood.
pub const VERSION: &str = "1.3.0";

/// Names to values, in a stable order.
pub type Annotations = BTreeMap<String, String>;

/// The whole file. SPEC: config.md
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// SemVer of the specification that the bundle was written for.
    pub oci_version: String,
    /// What runs in the container.
    pub process: Option<Process>,
    /// The root filesystem.
    pub root: Option<Root>,
    /// Host name inside a new UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name inside a new UTS namespace.
    pub domainname: Option<String>,
    /// Mounts in the order in which they are made.
    pub mounts: List<Mount>,
    /// Programs to run at the container's turning points.
    pub hooks: Option<Hooks>,
    /// Free-form key-value pairs.
    pub annotations: Option<Annotations>,
    /// The Linux part.
    pub linux: Option<Linux>,
    /// What is mounted at `root.path`. Not the specification's; and no annotation, since engines copy those from images and pods.
    #[serde(rename = "run.rt.rootfs", skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Vec<RootfsMount>>,
}

/// As containerd's snapshotters write mounts.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RootfsMount {
    /// Filesystem type, `overlay` or `bind`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What.
    pub source: String,
    /// Options as in fstab(5).
    pub options: Vec<String>,
}

/// SPEC: config.md#root
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Make it read-only.
    pub readonly: bool,
}

/// SPEC: config.md#mounts
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the container.
    pub destination: String,
    /// Filesystem type; "bind" or absent with a bind option.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What; for bind mounts absolute or relative to the bundle.
    pub source: Option<String>,
    /// Options as in fstab(5), and those of config.md#linux-mount-options.
    pub options: List<String>,
    /// Id mapping of the mount itself (with `gid_mappings`): makes it an idmapped mount.
    pub uid_mappings: List<IdMapping>,
    /// See `uid_mappings`.
    pub gid_mappings: List<IdMapping>,
}

/// SPEC: config-linux.md#user-namespace-mappings
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// SPEC: config.md#posix-platform-hooks
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated in the spec, used all the same: in the runtime namespaces, before pivot_root.
    pub prestart: List<Hook>,
    /// In the runtime namespaces, before pivot_root.
    pub create_runtime: List<Hook>,
    /// In the container namespaces, before pivot_root.
    pub create_container: List<Hook>,
    /// In the container namespaces, before the user's program.
    pub start_container: List<Hook>,
    /// In the runtime namespaces, after the user's program was started.
    pub poststart: List<Hook>,
    /// In the runtime namespaces, after the container was deleted.
    pub poststop: List<Hook>,
}

/// One hook.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hook {
    /// Absolute path of the program.
    pub path: String,
    /// Its argv, the program's own name included; absent: just the path.
    pub args: List<String>,
    /// Its whole environment.
    pub env: List<String>,
    /// Seconds until it is killed; absent: no limit.
    pub timeout: Option<i64>,
}

/// SPEC: config-linux.md
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// New and joined namespaces.
    pub namespaces: List<Namespace>,
    /// Mapping of a new user namespace (with `gid_mappings`).
    pub uid_mappings: List<IdMapping>,
    /// See `uid_mappings`.
    pub gid_mappings: List<IdMapping>,
    /// Offsets of the clocks of a new time namespace: `monotonic`, `boottime`.
    pub time_offsets: Option<BTreeMap<String, TimeOffset>>,
    /// Device nodes to make.
    pub devices: List<Device>,
    /// Host network devices to move in, by host name.
    pub net_devices: Option<BTreeMap<String, NetDevice>>,
    /// Where the cgroup is; its form depends on the driver.
    pub cgroups_path: Option<String>,
    /// Limits.
    pub resources: Option<Resources>,
    /// Cache and memory bandwidth allocation.
    pub intel_rdt: Option<serde_json::Value>,
    /// NUMA memory policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// Kernel parameters of the container's namespaces.
    pub sysctl: Option<Annotations>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// Propagation of the root mount: `shared`, `slave`, `private`, `unbindable`, or their `r` forms.
    pub rootfs_propagation: Option<String>,
    /// Paths that read as empty.
    pub masked_paths: List<String>,
    /// Paths that can't be written.
    pub readonly_paths: List<String>,
    /// SELinux label of the mounts.
    pub mount_label: Option<String>,
    /// Execution domain, personality(2).
    pub personality: Option<Personality>,
}

/// SPEC: config-linux.md#namespaces
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Namespace {
    /// `pid network mount ipc uts user cgroup time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Join this one; absent or empty: a new one.
    pub path: Option<String>,
}

impl Namespace {
    /// Whether it is made, not joined.
    pub fn is_new(&self) -> bool {
        self.path.as_deref().unwrap_or_default().is_empty()
    }
}

/// SPEC: config-linux.md#offset-for-time-namespace
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds on top.
    pub nanosecs: u32,
}

/// SPEC: config-linux.md#devices
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// `c`, `b`, `u` (as `c`) or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Absolute path in the container.
    pub path: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits; absent: 0666.
    pub file_mode: Option<u32>,
    /// Owner in the container; absent: 0.
    pub uid: Option<u32>,
    /// Group in the container; absent: 0.
    pub gid: Option<u32>,
}

/// SPEC: config-linux.md#network-devices
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NetDevice {
    /// Its name inside; absent: as outside.
    pub name: Option<String>,
}

/// SPEC: config-linux.md#memory-policy
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// `MPOL_*`.
    pub mode: String,
    /// Node list such as `0-1,3`.
    pub nodes: Option<String>,
    /// `MPOL_F_*`.
    pub flags: List<String>,
}

/// SPEC: config-linux.md#personality
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// None is defined yet.
    pub flags: List<String>,
}
