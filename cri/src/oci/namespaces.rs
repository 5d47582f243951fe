//! Which namespaces a sandbox makes and a container joins. SPEC: NamespaceOption

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType as Type};

use super::{SandboxFacts, SandboxPlace, empty};
use crate::api::{self, NamespaceMode as Mode};
use crate::error::{Error, Result};

/// The modes of a pod, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    /// The network is the host's.
    pub host_network: bool,
    /// SysV IPC, message queues and /dev/shm are the host's.
    pub host_ipc: bool,
    /// `pid` as given.
    pub pid: Mode,
    /// The mapping of the pod's user namespace; `None`: it has none.
    pub idmap: Option<IdMap>,
}

/// The one mapping of ids that Kubernetes knows: from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The host's id of the container's root.
    pub uid: u32,
    /// The host's group id of the container's root.
    pub gid: u32,
    /// How many ids.
    pub length: u32,
}

impl IdMap {
    /// As the spec writes it: users, groups.
    pub fn lines(self) -> [Vec<LinuxIdMapping>; 2] {
        [self.uid, self.gid].map(|host| vec![empty::id_range(0, host, self.length)])
    }
}

/// The modes of a sandbox's config; what is not said is POD's.
pub fn modes(config: &api::PodSandboxConfig) -> Result<Modes> {
    let options = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let none = api::NamespaceOption::default();
    let options = options.and_then(|context| context.namespace_options.as_ref()).unwrap_or(&none);
    let modes = Modes {
        host_network: of_host("network", options.network)?,
        host_ipc: of_host("ipc", options.ipc)?,
        pid: match mode("pid", options.pid)? {
            Mode::Target => {
                return Err(Error::invalid(
                    "namespace_options.pid: TARGET, which is a container's to ask for",
                )
                .cure("it is POD, CONTAINER or NODE"));
            }
            mode => mode,
        },
        idmap: options.userns_options.as_ref().map_or(Ok(None), idmap)?,
    };
    if modes.idmap.is_some() && modes.pid == Mode::Node {
        // KERNEL: a procfs of a PID namespace can only be mounted by its owner.
        return Err(Error::invalid("namespace_options: userns_options POD with pid NODE")
            .cure("a pod with a user namespace can't see the host's processes"));
    }
    Ok(modes)
}

fn mode(field: &str, value: i32) -> Result<Mode> {
    Mode::try_from(value)
        .map_err(|_| Error::invalid(format!("namespace_options.{field}: unknown mode {value}")))
}

fn of_host(field: &str, value: i32) -> Result<bool> {
    match mode(field, value)? {
        Mode::Pod => Ok(false),
        Mode::Node => Ok(true),
        other => Err(Error::invalid(format!("namespace_options.{field}: mode {}", other.as_str_name()))
            .cure("it is POD or NODE")),
    }
}

fn idmap(options: &api::UserNamespace) -> Result<Option<IdMap>> {
    let invalid = |text: String| Error::invalid(format!("namespace_options.userns_options: {text}"));
    match mode("userns_options", options.mode)? {
        Mode::Node if options.uids.is_empty() && options.gids.is_empty() => Ok(None),
        Mode::Node => Err(invalid("mappings with mode NODE".into())),
        Mode::Pod => {
            let [uids, gids] = [&options.uids, &options.gids];
            let ([user], [group]) = (uids.as_slice(), gids.as_slice()) else {
                return Err(invalid(format!(
                    "{} mappings of users and {} of groups",
                    uids.len(),
                    gids.len()
                ))
                .cure("exactly one of each is supported"));
            };
            for (what, map) in [("uids", user), ("gids", group)] {
                if map.container_id != 0 || map.length == 0 {
                    let (first, length) = (map.container_id, map.length);
                    return Err(invalid(format!("{what} map {length} ids from {first} on"))
                        .cure("a mapping starts at container id 0 and has a length"));
                }
                if map.host_id.checked_add(map.length).is_none() {
                    return Err(invalid(format!(
                        "{what} map beyond the last id: {} + {}",
                        map.host_id, map.length
                    )));
                }
            }
            if user.length != group.length {
                return Err(invalid(format!("{} users but {} groups", user.length, group.length))
                    .cure("map as many of both"));
            }
            Ok(Some(IdMap { uid: user.host_id, gid: group.host_id, length: user.length }))
        }
        other => {
            Err(invalid(format!("mode {} is not supported", other.as_str_name())).cure("it is POD or NODE"))
        }
    }
}

/// The namespaces of a sandbox's pause process.
pub fn of_sandbox(modes: &Modes, place: &SandboxPlace) -> Result<Vec<LinuxNamespace>> {
    let mut all = vec![empty::namespace(Type::Mount, None), empty::namespace(Type::Cgroup, None)];
    if modes.idmap.is_some() {
        all.push(empty::namespace(Type::User, place.userns.clone()));
    }
    if !modes.host_network {
        // One that a user namespace made here shall own is made here too.
        let makes_own = modes.idmap.is_some() && place.userns.is_none();
        if place.netns.is_none() && !makes_own {
            return Err(Error::internal(format!("sandbox {} has no network namespace to join", place.id)));
        }
        all.push(empty::namespace(Type::Network, place.netns.clone()));
        all.push(empty::namespace(Type::Uts, None));
    }
    if !modes.host_ipc {
        all.push(empty::namespace(Type::Ipc, None));
    }
    if modes.pid != Mode::Node {
        all.push(empty::namespace(Type::Pid, None));
    }
    Ok(all)
}

/// What a container has to say about namespaces beside its pod's modes.
#[derive(Debug, Clone, Copy)]
pub struct Joining<'a> {
    /// Its own options; absent: all as the pod.
    pub options: Option<&'a api::NamespaceOption>,
    /// It sees the host's cgroups.
    pub privileged: bool,
    /// The first process of the container that `target_id` names.
    pub target_pid: Option<u32>,
}

/// The namespaces of a container: the pod's, and a mount namespace of its own.
pub fn of_container(
    pod: &Modes,
    joining: Joining<'_>,
    sandbox: &SandboxFacts,
) -> Result<Vec<LinuxNamespace>> {
    let pid = match joining.options {
        Some(options) => as_pod(pod, options)?,
        None => pod.pid,
    };
    let of_pod =
        |kind, name: &str| empty::namespace(kind, Some(format!("/proc/{}/ns/{name}", sandbox.pid).into()));
    let mut all = vec![empty::namespace(Type::Mount, None)];
    if !joining.privileged {
        all.push(empty::namespace(Type::Cgroup, None));
    }
    if pod.idmap.is_some() {
        all.push(of_pod(Type::User, "user"));
    }
    if !pod.host_network {
        all.push(match &sandbox.netns {
            Some(netns) => empty::namespace(Type::Network, Some(netns.clone())),
            None => of_pod(Type::Network, "net"),
        });
        all.push(of_pod(Type::Uts, "uts"));
    }
    if !pod.host_ipc {
        all.push(of_pod(Type::Ipc, "ipc"));
    }
    match pid {
        // KERNEL: pid_for_children is where new children go; for the pause process both are the same.
        Mode::Pod if pod.pid != Mode::Node => all.push(of_pod(Type::Pid, "pid")),
        Mode::Container => all.push(empty::namespace(Type::Pid, None)),
        Mode::Target => {
            let target = joining.options.map_or("", |options| &options.target_id);
            let pid = joining.target_pid.ok_or_else(|| {
                Error::invalid(format!("namespace_options: pid TARGET of container {target:?}, which is not running in this sandbox"))
                    .cure("name a running container of the same sandbox in target_id")
            })?;
            all.push(empty::namespace(Type::Pid, Some(PathBuf::from(format!("/proc/{pid}/ns/pid")))));
        }
        Mode::Pod | Mode::Node => {}
    }
    Ok(all)
}

/// The container's PID mode, where nothing contradicts the pod: a container can't have more of the host than its pod.
fn as_pod(pod: &Modes, options: &api::NamespaceOption) -> Result<Mode> {
    let pid = mode("pid", options.pid)?;
    let beyond = [
        ("network", mode("network", options.network)? == Mode::Node && !pod.host_network),
        ("ipc", mode("ipc", options.ipc)? == Mode::Node && !pod.host_ipc),
        ("pid", pid == Mode::Node && pod.pid != Mode::Node),
    ];
    if let Some((field, _)) = beyond.iter().find(|(_, beyond)| *beyond) {
        return Err(Error::invalid(format!("namespace_options.{field}: NODE, but the sandbox's is not"))
            .cure("run it in a sandbox with the same mode"));
    }
    if let Some(userns) = &options.userns_options
        && idmap(userns)? != pod.idmap
    {
        return Err(Error::invalid("namespace_options.userns_options: other mappings than the sandbox's")
            .cure("give the container those of its sandbox"));
    }
    Ok(pid)
}

#[cfg(test)]
mod tests;
