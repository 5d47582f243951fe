//! The server's configuration: a TOML file, with a working value for each key. Unknown keys are errors that name the nearest
//! known one. It does not look at the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where images and what survives a reboot lie.
    pub root: PathBuf,
    /// Where sockets, records of running pods and their mounts lie (tmpfs).
    pub state: PathBuf,
    /// The socket that clients connect to.
    pub listen: String,
    /// The runtime handler of pods that name none.
    pub default_runtime: String,
    /// Cgroups.
    pub cgroup: Cgroup,
    /// The pod network.
    pub cni: Cni,
    /// Where images come from.
    pub registry: Registry,
    /// Runtime handlers by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The programs that the server starts.
    pub shim: Shim,
}

/// `[cgroup]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// Who makes cgroups.
    pub driver: CgroupDriver,
    /// What a real limit does whose controller the host lacks.
    pub missing: Missing,
}

/// `cgroup.driver`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// systemd where it is the init, else cgroupfs.
    #[default]
    Auto,
    /// By mkdir and write.
    Cgroupfs,
    /// By systemd's scopes.
    Systemd,
}

/// `cgroup.missing`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// A limit that can't be set is an error.
    #[default]
    Error,
    /// It is left out, and `Status` says so.
    Ignore,
}

/// `[cni]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cni {
    /// Where network configurations are looked for; the first by name counts.
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// The built-in bridge's IPv4 range, where no configuration is found.
    pub subnet: String,
    /// The built-in bridge's IPv6 range; empty: none.
    pub subnet6: String,
}

impl Default for Cni {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            subnet: "10.89.0.0/16".into(),
            subnet6: "fd89:7274::/64".into(),
        }
    }
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// A directory of `HOST/hosts.toml`, as containerd's.
    pub config_path: PathBuf,
}

impl Default for Registry {
    fn default() -> Self {
        Self { config_path: "/etc/rt/certs.d".into() }
    }
}

/// `[runtimes.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// The OCI runtime: a path, or a name looked for in PATH and beside the server.
    pub path: PathBuf,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { path: "rt".into() }
    }
}

/// `[shim]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shim {
    /// The shim: a path, or a name looked for in PATH and beside the server.
    pub path: PathBuf,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
}

impl Default for Shim {
    fn default() -> Self {
        Self { path: "containerd-shim-rt-v2".into(), log_level: "info".into() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/rt".into(),
            state: "/run/rt".into(),
            listen: "unix:///run/rt/cri.sock".into(),
            default_runtime: "rt".into(),
            cgroup: Cgroup::default(),
            cni: Cni::default(),
            registry: Registry::default(),
            runtimes: BTreeMap::from([("rt".to_owned(), Runtime::default())]),
            shim: Shim::default(),
        }
    }
}
