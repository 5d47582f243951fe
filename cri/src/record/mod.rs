//! What survives on disk: immutable metadata and a versioned status for each sandbox and container. No effects elsewhere.
//!
//! `<root>/sandboxes/ID/{meta,status}` and `<root>/containers/ID/{meta,status}`. The metadata is written before anything else of the
//! object exists, so that all that may exist can be found and undone.

pub mod file;
mod kept;
pub mod message;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api;

pub use kept::{Changes, Kept, Versioned};

/// What never changes of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxMeta {
    /// 64 hexadecimal digits.
    pub id: String,
    /// As requested.
    #[serde(with = "message")]
    pub config: api::PodSandboxConfig,
    /// The runtime handler, never empty.
    pub handler: String,
    /// As requested: empty for the default.
    pub handler_asked: String,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// The cgroup (or slice) that the pod's containers are made in.
    pub cgroup_parent: String,
    /// Made by us for want of one in the request: removed with the sandbox.
    pub cgroup_parent_is_ours: bool,
}

/// How far a sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxStage {
    /// Being made: not listed. After a crash it is undone.
    Making,
    /// Its pause process runs and its network is up.
    Ready,
    /// Stopped, or on the way there. Listed as not ready.
    Stopped,
}

/// What changes of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// How far it is.
    pub stage: SandboxStage,
    /// Everything that stopping does has been done.
    pub stop_is_complete: bool,
    /// Addresses, the primary one first; empty on the host's network.
    pub ips: Vec<String>,
    /// The shim's process, 0 before it started.
    pub shim_pid: u32,
    /// The pause process, 0 before it started.
    pub pause_pid: u32,
    /// What was last said by UpdatePodSandboxResources.
    #[serde(with = "message")]
    pub resources: api::LinuxContainerResources,
    /// The overhead said there.
    #[serde(with = "message")]
    pub overhead: api::LinuxContainerResources,
    /// What was left out or changed because the host can't do it.
    pub degraded: Vec<String>,
    /// Each stage with its duration.
    pub timeline: Vec<Mark>,
}

/// What never changes of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerMeta {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// As requested.
    #[serde(with = "message")]
    pub config: api::ContainerConfig,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// A digest or id by which the image can be found.
    pub image_ref: String,
    /// The images that are mounted as volumes, by the index of the mount.
    #[serde(default)]
    pub mounted_images: BTreeMap<usize, String>,
    /// Nanoseconds since the epoch.
    pub created_at: i64,
    /// Absolute path of the log file; empty: none.
    pub log_path: String,
    /// By name, `SIGTERM`.
    pub stop_signal: String,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerStage {
    /// Being made: not listed. After a crash it is undone.
    Making,
    /// Its process waits for StartContainer.
    Created,
    /// Started.
    Running,
    /// Ended.
    Exited,
    /// Its shim does not answer.
    Unknown,
}

/// What changes of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// How far it is.
    pub stage: ContainerStage,
    /// Being removed.
    pub removing: bool,
    /// The container process, 0 before it exists.
    pub pid: u32,
    /// Nanoseconds since the epoch, 0 before.
    pub started_at: i64,
    /// Nanoseconds since the epoch, 0 before.
    pub finished_at: i64,
    /// When exited.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// In force.
    #[serde(with = "message")]
    pub resources: api::LinuxContainerResources,
    /// The ids that the process runs with.
    #[serde(with = "message")]
    pub user: api::LinuxContainerUser,
    /// The cgroup below the cgroup2 mount, once known.
    pub cgroup: String,
    /// What was left out or changed because the host can't do it.
    pub degraded: Vec<String>,
    /// Each stage with its duration.
    pub timeline: Vec<Mark>,
}

/// One stage that is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mark {
    /// Its name.
    pub stage: String,
    /// When it began, nanoseconds since the epoch.
    pub at: i64,
    /// How long it took.
    pub took_us: u64,
}

impl SandboxStatus {
    /// Of a sandbox of which nothing exists yet.
    pub fn new() -> Self {
        Self {
            stage: SandboxStage::Making,
            stop_is_complete: false,
            ips: Vec::new(),
            shim_pid: 0,
            pause_pid: 0,
            resources: api::LinuxContainerResources::default(),
            overhead: api::LinuxContainerResources::default(),
            degraded: Vec::new(),
            timeline: Vec::new(),
        }
    }
}

impl Default for SandboxStatus {
    fn default() -> Self {
        Self::new()
    }
}

impl ContainerStatus {
    /// Of a container of which nothing exists yet.
    pub fn new() -> Self {
        Self {
            stage: ContainerStage::Making,
            removing: false,
            pid: 0,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            resources: api::LinuxContainerResources::default(),
            user: api::LinuxContainerUser::default(),
            cgroup: String::new(),
            degraded: Vec::new(),
            timeline: Vec::new(),
        }
    }
}

impl Default for ContainerStatus {
    fn default() -> Self {
        Self::new()
    }
}
