//! Kernel parameters of a pod: those of its own namespaces, with what unprivileged containers expect of a network of their own.

use std::collections::{BTreeMap, HashMap};

use runtime::plan::namespaces::{Kind, Namespaces};

use super::namespaces::Modes;
use crate::api::{self, NamespaceMode as Mode};
use crate::error::{Error, Result};

/// `linux.sysctl` of the sandbox.
pub fn of_sandbox(config: &api::PodSandboxConfig, modes: &Modes) -> Result<HashMap<String, String>> {
    let mut all = config.linux.as_ref().map(|linux| linux.sysctls.clone()).unwrap_or_default();
    let sorted: BTreeMap<String, String> = all.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    runtime::plan::sysctl::plan(&sorted, &own(modes)).map_err(|error| {
        let text = error.to_string();
        Error::invalid(text.replace("linux.sysctl: ", "sysctls: "))
    })?;
    if !modes.host_network {
        let mut default = |name: &str, value: &str| {
            if !all.keys().any(|known| known.replace('/', ".") == name) {
                all.insert(name.to_owned(), value.to_owned());
            }
        };
        // As containerd 2: any user may bind port 80 and ping, since both concern this pod's network only.
        default("net.ipv4.ip_unprivileged_port_start", "0");
        // KERNEL: the range is in ids of the namespace's owner, and must be mapped there whole.
        if modes.idmap.is_none() {
            default("net.ipv4.ping_group_range", "0 2147483647");
        }
    }
    Ok(all)
}

fn own(modes: &Modes) -> Namespaces {
    let kinds = [
        (Kind::Network, !modes.host_network),
        (Kind::Uts, !modes.host_network),
        (Kind::Ipc, !modes.host_ipc),
        (Kind::Pid, modes.pid != Mode::Node),
        (Kind::User, modes.idmap.is_some()),
    ];
    let new = kinds.iter().filter(|(_, own)| *own).map(|(kind, _)| *kind).collect();
    Namespaces { new, ..Namespaces::default() }
}
