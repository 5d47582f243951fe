//! The process part of the spec, which `exec --process FILE` reads by itself too.

use serde::{Deserialize, Serialize};

use super::List;

/// SPEC: config.md#process
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Give it a pseudo-terminal.
    pub terminal: bool,
    /// Size of that terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// argv.
    pub args: List<String>,
    /// `NAME=VALUE`.
    pub env: List<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// The five sets; absent: none at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: List<Rlimit>,
    /// Can't gain privileges by execve(2).
    pub no_new_privileges: bool,
    /// AppArmor profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// -1000 to 1000; absent: as the runtime's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// CPU scheduling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// I/O scheduling.
    #[serde(rename = "ioPriority")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// CPUs for the way into the container and for the process there (exec only).
    #[serde(rename = "execCPUAffinity")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// Characters.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// SPEC: config.md#posix-platform-user
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// In the container's user namespace.
    pub uid: u32,
    /// In the container's user namespace.
    pub gid: u32,
    /// umask(2); absent: 0022.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: List<u32>,
}

/// Names such as `CAP_NET_RAW`. SPEC: config.md#linux-process
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    /// Upper bound for what execve(2) can give.
    pub bounding: List<String>,
    /// What is in force.
    pub effective: List<String>,
    /// What execve(2) can hand on to files that ask for it.
    pub inheritable: List<String>,
    /// What may be put into force.
    pub permitted: List<String>,
    /// What survives execve(2) of an ordinary file.
    pub ambient: List<String>,
}

/// SPEC: config.md#posix-process
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is in force.
    pub soft: u64,
    /// Its ceiling.
    pub hard: u64,
}

/// SPEC: config.md#linux-process
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: String,
    /// -20 to 19.
    pub nice: i32,
    /// Static priority of real-time policies.
    pub priority: i32,
    /// `SCHED_FLAG_*`.
    pub flags: List<String>,
    /// Nanoseconds, SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, SCHED_DEADLINE.
    pub period: u64,
}

/// SPEC: config.md#linux-process
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// 0 (highest) to 7.
    pub priority: i32,
}

/// CPU lists such as `0-3,7`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct CpuAffinity {
    /// While entering the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// For the process.
    #[serde(rename = "final")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}
