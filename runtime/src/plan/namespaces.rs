//! Which namespaces are new, which are joined, and whether the combination is one that the kernel can make.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec;

/// A type of namespace, in the order in which they are joined: the user namespace gives the rights over the others, the mount
/// namespace takes the paths away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// User and group ids, capabilities.
    User,
    /// Process ids.
    Pid,
    /// Network devices, ports, abstract sockets.
    Network,
    /// SysV IPC, POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// What is the root of the cgroup tree.
    Cgroup,
    /// Monotonic and boot-time clocks.
    Time,
    /// Mounts.
    Mount,
}

impl Kind {
    /// All of them, in joining order.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Pid, Self::Network, Self::Ipc, Self::Uts, Self::Cgroup, Self::Time, Self::Mount];

    /// The runtime-spec's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
            Self::Mount => "mount",
        }
    }

    /// Its file in /proc/PID/ns.
    pub fn proc_name(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Mount => "mnt",
            other => other.name(),
        }
    }

    /// Its `CLONE_NEW*` flag.
    pub fn flag(self) -> u64 {
        (match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => 0x80,
            Self::Mount => libc::CLONE_NEWNS,
        }) as u64
    }

    /// From the runtime-spec's name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The namespaces of a container; what is neither new nor joined is the runtime's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Namespaces {
    /// To be made at birth.
    pub new: Vec<Kind>,
    /// To be made by init itself: what it must be put into first is not there at its birth.
    pub late: Vec<Kind>,
    /// To be joined, in [`Kind`]'s order.
    pub join: Vec<Join>,
}

/// A namespace that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// Its type.
    pub kind: Kind,
    /// A file that stands for it: /proc/PID/ns/NAME or a bind mount of that.
    pub path: PathBuf,
}

impl Namespaces {
    /// Whether a new one of this type is made.
    pub fn makes(&self, kind: Kind) -> bool {
        self.new.contains(&kind) || self.late.contains(&kind)
    }

    /// Has a new one of this type made late.
    pub fn delay(&mut self, kind: Kind) {
        if self.makes(kind) {
            self.new.retain(|new| *new != kind);
            self.late = vec![kind];
        }
    }

    /// Whether one of this type is joined.
    pub fn joins(&self, kind: Kind) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }

    /// Whether the container has one of its own, made or joined.
    pub fn has(&self, kind: Kind) -> bool {
        self.makes(kind) || self.joins(kind)
    }
}

/// SPEC: config-linux.md#namespaces
pub fn plan(list: &[spec::Namespace]) -> Result<Namespaces> {
    let mut namespaces = Namespaces::default();
    for entry in list {
        let kind = Kind::parse(&entry.kind).ok_or_else(|| {
            Error::invalid(format!("linux.namespaces: unknown type {:?}", entry.kind))
                .cure(format!("the types are {}", Kind::ALL.map(Kind::name).join(", ")))
        })?;
        if namespaces.has(kind) {
            return Err(Error::invalid(format!("linux.namespaces: {:?} is given twice", kind.name())));
        }
        match entry.path.as_deref().filter(|path| !path.is_empty()) {
            None => namespaces.new.push(kind),
            Some(path) if path.starts_with('/') => namespaces.join.push(Join { kind, path: path.into() }),
            Some(path) => {
                return Err(Error::invalid(format!(
                    "linux.namespaces: the path {path:?} of {:?} is not absolute",
                    kind.name()
                )));
            }
        }
    }
    namespaces.new.sort_unstable();
    namespaces.join.sort_unstable_by_key(|join| join.kind);
    Ok(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, path: Option<&str>) -> spec::Namespace {
        spec::Namespace { kind: kind.into(), path: path.map(Into::into) }
    }

    #[test]
    fn new_and_joined_are_told_apart_and_sorted() {
        let all =
            plan(&[entry("mount", None), entry("network", Some("/proc/1/ns/net")), entry("pid", Some(""))])
                .unwrap();
        assert_eq!(all.new, [Kind::Pid, Kind::Mount]);
        assert_eq!(all.join, [Join { kind: Kind::Network, path: "/proc/1/ns/net".into() }]);
    }

    #[test]
    fn mistakes_name_the_entry() {
        for (list, message) in [
            (
                vec![entry("net", None)],
                "linux.namespaces: unknown type \"net\" (the types are user, pid, network, ipc, uts, cgroup, time, mount)",
            ),
            (vec![entry("pid", None), entry("pid", Some("/x"))], "linux.namespaces: \"pid\" is given twice"),
            (
                vec![entry("pid", Some("ns/pid"))],
                "linux.namespaces: the path \"ns/pid\" of \"pid\" is not absolute",
            ),
        ] {
            assert_eq!(plan(&list).unwrap_err().to_string(), message);
        }
    }
}
