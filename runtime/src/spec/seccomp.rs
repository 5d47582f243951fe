//! `linux.seccomp` as written. SPEC: config-linux.md#seccomp

use serde::{Deserialize, Serialize};

use super::List;

/// System call filter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Seccomp {
    /// `SCMP_ACT_*` for what no rule matches.
    pub default_action: String,
    /// errno of the default action; absent: EPERM.
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_*`; the native one is always in.
    pub architectures: List<String>,
    /// `SECCOMP_FILTER_FLAG_*`; absent is not the same as none.
    pub flags: Option<Vec<String>>,
    /// Socket that gets the notification descriptor.
    pub listener_path: Option<String>,
    /// Opaque text for that listener.
    pub listener_metadata: Option<String>,
    /// The rules.
    pub syscalls: List<SyscallRule>,
}

/// One rule: an action for some calls.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SyscallRule {
    /// Names of system calls; those that nobody knows are ignored.
    pub names: List<String>,
    /// `SCMP_ACT_*`.
    pub action: String,
    /// errno or trace value; absent: EPERM.
    pub errno_ret: Option<u32>,
    /// All of them must hold; two on the same argument: one of them.
    pub args: List<SyscallArg>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SyscallArg {
    /// 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument is compared with.
    pub value_two: u64,
    /// `SCMP_CMP_*`.
    pub op: String,
}
