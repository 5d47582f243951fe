//! `linux.sysctl`: only parameters that belong to one of the container's own namespaces can be set.

use crate::error::{Error, Result};
use crate::plan::namespaces::{Kind, Namespaces};
use crate::spec;

/// KERNEL: ipc/ipc_sysctl.c; per IPC namespace.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Paths below /proc/sys with their values. SPEC: config-linux.md#sysctl
pub fn plan(sysctl: &spec::Annotations, namespaces: &Namespaces) -> Result<Vec<(String, String)>> {
    let mut all = Vec::with_capacity(sysctl.len());
    for (name, value) in sysctl {
        let path = path(name);
        if path.split('/').any(|part| part.is_empty() || part == "..") || path.contains('\0') {
            return Err(Error::invalid(format!(
                "linux.sysctl: {name:?} is not the name of a kernel parameter"
            )));
        }
        let owner = owner(&path).ok_or_else(|| {
            Error::invalid(format!("linux.sysctl: {name:?} is not in a separate kernel namespace"))
                .cure("it is the host's; set it there with sysctl(8)")
        })?;
        if !namespaces.has(owner) {
            return Err(Error::invalid(format!(
                "linux.sysctl: {name:?} is the host's: the container has no {} namespace of its own",
                owner.name()
            ))
            .cure(format!("add {:?} to linux.namespaces", owner.name())));
        }
        if matches!(path.as_str(), "kernel/hostname") {
            return Err(Error::invalid(format!("linux.sysctl: {name:?} is set by the field \"hostname\"")));
        }
        all.push((path, value.clone()));
    }
    Ok(all)
}

/// The type of namespace that a parameter, as written in the config, belongs to.
pub(super) fn owner_of(name: &str) -> Option<Kind> {
    owner(&path(name))
}

/// As sysctl(8) reads names: whichever of `.` and `/` comes first separates, the other one is part of a name.
fn path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The same of a path below /proc/sys.
pub fn owner(path: &str) -> Option<Kind> {
    match path {
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Some(Kind::Ipc),
        _ if path.starts_with("net/") => Some(Kind::Network),
        "kernel/domainname" | "kernel/hostname" => Some(Kind::Uts),
        _ if path.starts_with("user/") => Some(Kind::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Result<Vec<(String, String)>> {
        let namespaces = Namespaces { new: vec![Kind::Network, Kind::Uts], ..Namespaces::default() };
        plan(&[(name.to_owned(), "1".to_owned())].into(), &namespaces)
    }

    #[test]
    fn both_ways_of_writing_names() {
        assert_eq!(one("net.ipv4.ip_forward").unwrap()[0].0, "net/ipv4/ip_forward");
        assert_eq!(one("net.ipv4.conf.eth0/1.forwarding").unwrap()[0].0, "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(one("net/ipv4/conf/eth0.1/forwarding").unwrap()[0].0, "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn what_is_the_hosts_is_refused() {
        for (name, message) in [
            (
                "vm.swappiness",
                "linux.sysctl: \"vm.swappiness\" is not in a separate kernel namespace (it is the host's; set it there with sysctl(8))",
            ),
            (
                "kernel.msgmax",
                "linux.sysctl: \"kernel.msgmax\" is the host's: the container has no ipc namespace of its own (add \"ipc\" to linux.namespaces)",
            ),
            ("kernel.hostname", "linux.sysctl: \"kernel.hostname\" is set by the field \"hostname\""),
            ("net/../../x", "linux.sysctl: \"net/../../x\" is not the name of a kernel parameter"),
        ] {
            assert_eq!(one(name).unwrap_err().to_string(), message);
        }
    }
}
