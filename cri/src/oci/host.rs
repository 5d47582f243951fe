//! What the mapping has to know of the host, as plain values. Whoever makes a [`Host`] looks; this file doesn't.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use oci_spec::runtime::{Capability, PosixRlimit};

use crate::config::Missing;

/// The host and the server's configuration, as far as specs depend on them. Made once at start; `apparmor.profiles` and
/// `devices` are what changes later.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name: `HOSTNAME` of containers whose pod has no name of its own.
    pub hostname: String,
    /// Who makes cgroups.
    pub driver: Driver,
    /// What a real limit does whose controller is missing.
    pub missing: Missing,
    /// The cgroup2 controllers that containers can have (`cgroup.controllers` of the place where pods go).
    pub controllers: BTreeSet<String>,
    /// Whether the memory controller counts swap (`memory.swap.max` exists).
    pub swap: bool,
    /// The capabilities that the kernel knows and the server has in its bounding set.
    pub capabilities: HashSet<Capability>,
    /// The server's own oom_score_adj.
    pub oom_score_adj: i32,
    /// Whether the server may set a lower oom_score_adj than its own (CAP_SYS_RESOURCE).
    pub lowers_oom_score: bool,
    /// Limits that containers start with: not the server's own, which are raised.
    pub rlimits: Vec<PosixRlimit>,
    /// AppArmor; `None`: the kernel has it not enabled.
    pub apparmor: Option<AppArmor>,
    /// Whether SELinux is enabled.
    pub selinux: bool,
    /// Whether mounts can be made read-only with all below them. KERNEL(5.12)
    pub recursive_readonly: bool,
    /// Whether mounts can be idmapped. KERNEL(5.12; overlays of idmapped layers 5.19)
    pub idmapped_mounts: bool,
    /// The nodes below the host's /dev, for privileged containers; pts, shm and mqueue are left out.
    pub devices: Vec<Node>,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// mkdir and write.
    Cgroupfs,
    /// systemd's scopes.
    Systemd,
}

/// The AppArmor profile that stands for RuntimeDefault.
pub const DEFAULT_PROFILE: &str = "rt-default";

/// AppArmor as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppArmor {
    /// Why [`DEFAULT_PROFILE`] can't be had; `None`: it is loaded.
    pub lacking: Option<String>,
    /// Names of the profiles that are loaded, without their mode; `None`: they can't be seen.
    pub profiles: Option<BTreeSet<String>>,
}

/// A device node on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path on the host.
    pub path: PathBuf,
    /// Its type.
    pub kind: NodeKind,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// The type of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Character.
    Char,
    /// Block.
    Block,
    /// FIFO.
    Fifo,
}
