//! The server's configuration: a TOML file, with a working value for each key. Unknown keys are errors that name the nearest
//! known one. It does not look at the host.

mod described;
mod keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

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
    pub cni: crate::network::Config,
    /// Exec, attach and port-forward.
    pub streaming: crate::stream::Config,
    /// What Prometheus may ask.
    pub metrics: crate::metrics::Config,
    /// Who is told of requests and their stages.
    pub tracing: crate::traces::Config,
    /// Container events.
    pub events: crate::events::Config,
    /// Where images come from.
    pub registry: crate::image::RegistryConfig,
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
            cni: crate::network::Config::default(),
            streaming: crate::stream::Config::default(),
            metrics: crate::metrics::Config::default(),
            tracing: crate::traces::Config::default(),
            events: crate::events::Config::default(),
            registry: crate::image::RegistryConfig::default(),
            runtimes: BTreeMap::from([("rt".to_owned(), Runtime::default())]),
            shim: Shim::default(),
        }
    }
}

/// Where a configuration is looked for if none is named; its absence is fine.
pub const FILE: &str = "/etc/rt/cri.toml";

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).what(|| format!("read the configuration {}", path.display()))?;
        Self::parse(&text).what(|| format!("read the configuration {}", path.display()))
    }

    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().map_err(|error| invalid(&error))?;
        let known =
            toml::Table::try_from(Self::default()).map_err(|error| Error::internal(error.to_string()))?;
        keys::check(&table, &known)?;
        let mut config: Self = table.try_into().map_err(|error| invalid(&error))?;
        // The default handler is there unless the file says something else of it.
        config.runtimes.entry("rt".to_owned()).or_default();
        if !config.runtimes.contains_key(&config.default_runtime) {
            let known: Vec<&str> = config.runtimes.keys().map(String::as_str).collect();
            return Err(Error::invalid(format!("default_runtime is {}", config.default_runtime))
                .cure(format!("known runtimes: {}", known.join(", "))));
        }
        if config.events.buffer.get() > crate::events::BUFFER_MAX {
            return Err(Error::invalid(format!("events.buffer is {}", config.events.buffer))
                .cure(format!("the largest is {}", crate::events::BUFFER_MAX)));
        }
        Ok(config)
    }

    /// As a file, each key after what it means.
    pub fn text(&self) -> Result<String> {
        described::text(self)
    }

    /// The default configuration as a file to start from: each key after what it means, commented out.
    pub fn default_text() -> Result<String> {
        described::default_text()
    }
}

fn invalid(error: &toml::de::Error) -> Error {
    Error::invalid(error.to_string().trim().replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_configuration_is_the_default_one_and_it_survives_being_written() {
        assert_eq!(Config::parse("").expect("empty"), Config::default());
        let text = Config::default().text().expect("text");
        assert_eq!(Config::parse(&text).expect("own text"), Config::default());
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        for (text, near) in [
            ("[cgroups]\ndriver = \"auto\"", "`cgroup`"),
            ("[cgroup]\ndrivers = \"auto\"", "`cgroup.driver`"),
            ("[runtimes.x]\npaht = \"/x\"", "`runtimes.x.path`"),
        ] {
            let error = Config::parse(text).expect_err("unknown key").to_string();
            assert!(error.contains(near), "{error}");
        }
        let error = Config::parse("[cgroup]\ndriver = \"systemdx\"").expect_err("value").to_string();
        assert!(error.contains("systemd"), "{error}");
        let error = Config::parse("[events]\nbuffer = 1048577").expect_err("too large").to_string();
        assert!(error.contains("events.buffer is 1048577") && error.contains("1048576"), "{error}");
    }
}
