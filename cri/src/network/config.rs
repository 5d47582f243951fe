//! The `[cni]` section of the configuration: which network pods get. It does not look at the host.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[cni]`: CNI where a configuration is found, else the built-in bridge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where network configurations are looked for (`.conflist`, `.conf`, `.json`), in the order of their names.
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// How many of the configurations found are used, each for one more interface of a pod.
    pub networks: usize,
    /// Seconds that one plugin may take before it is killed.
    pub timeout: u64,
    /// The built-in bridge's name.
    pub bridge: String,
    /// The built-in bridge's IPv4 range, as `10.90.0.0/16`; `auto`: the first of a list that no route of the host touches.
    pub subnet: String,
    /// The built-in bridge's IPv6 range; `auto`: a private one made from the machine's id; `none`: IPv4 only.
    pub subnet6: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            networks: 1,
            timeout: 60,
            bridge: "rt0".into(),
            subnet: "auto".into(),
            subnet6: "auto".into(),
        }
    }
}

impl Config {
    /// [`Config::timeout`] as a duration.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.timeout.max(1))
    }
}
