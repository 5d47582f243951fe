//! Where the server has put or found the things that a spec points at: paths, process ids, files that it has read. No logic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::host::Node;
use crate::error::Error;

/// Where a sandbox comes to lie.
#[derive(Debug, Clone, Default)]
pub struct SandboxPlace {
    /// The sandbox's id.
    pub id: String,
    /// The pause process's root: a directory with the program and with empty `proc` and `dev`. It is bound read-only, so one serves all.
    pub root: PathBuf,
    /// The pause program's argv, a path in that root.
    pub args: Vec<String>,
    /// The pod's network namespace (`/run/netns/…`); `None`: the host's.
    pub netns: Option<PathBuf>,
    /// The pod's user namespace, if one was made before the sandbox (as it must be where it shall own `netns`); `None`: the
    /// sandbox makes it.
    pub userns: Option<PathBuf>,
    /// The Localhost seccomp profile that the request names, as read; see [`super::sandbox::seccomp_file`].
    pub seccomp: Option<Vec<u8>>,
}

/// What containers have to know of their running sandbox.
#[derive(Debug, Clone, Default)]
pub struct SandboxFacts {
    /// The sandbox's id.
    pub id: String,
    /// The pause process: its namespaces are joined by `/proc/PID/ns/…`.
    pub pid: u32,
    /// The pod's network namespace; `None`: the host's.
    pub netns: Option<PathBuf>,
    /// The pod's /dev/shm, a directory on the host with mode 1777; `None`: the host's.
    pub shm: Option<PathBuf>,
    /// The pod's resolv.conf on the host. This and the two files below belong to the pod's root, so they need no id mapping.
    pub resolv_conf: Option<PathBuf>,
    /// The pod's /etc/hostname on the host.
    pub hostname: Option<PathBuf>,
    /// The pod's /etc/hosts on the host, for clients that mount none (a kubelet mounts its own).
    pub hosts: Option<PathBuf>,
}

/// Where a container comes to lie, and what was found for its request.
#[derive(Debug, Clone, Default)]
pub struct ContainerPlace {
    /// The container's id.
    pub id: String,
    /// `root.path`: an empty directory of the bundle.
    pub root: PathBuf,
    /// The writable layer; it has the owner and mode of the image's root, its owner mapped where the pod has a user namespace.
    pub upper: PathBuf,
    /// overlayfs's work directory, beside it.
    pub work: PathBuf,
    /// `mounts[i].host_path` → what it is; see [`super::container::sources`].
    pub sources: BTreeMap<String, Source>,
    /// Index in `mounts` → the image that is mounted there; see [`super::container::image_mounts`].
    pub image_mounts: BTreeMap<usize, ImageVolume>,
    /// Path in the container → directory on the host, for the image's VOLUMEs; see [`super::container::volumes`].
    pub volumes: BTreeMap<String, PathBuf>,
    /// `devices[i].host_path` → the nodes that are there: one, or all below a directory.
    pub devices: BTreeMap<String, Vec<Node>>,
    /// Path of a device node that a CDI specification names → what it is.
    pub cdi_nodes: BTreeMap<String, Node>,
    /// CDI specifications as read, by file name; later ones win.
    pub cdi: Vec<(PathBuf, Vec<u8>)>,
    /// Why others could not be read: what they may have is not said to exist nowhere.
    pub cdi_unread: Vec<Error>,
    /// The Localhost seccomp profile that the request names, as read; see [`super::container::seccomp_file`].
    pub seccomp: Option<Vec<u8>>,
    /// With PID mode TARGET: the first process of the container that `target_id` names.
    pub target_pid: Option<u32>,
}

/// A host path to mount, with links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the links led.
    pub path: PathBuf,
    /// How the mount that it is on passes mounts on.
    pub propagation: SourcePropagation,
}

/// Propagation of a mount, as /proc/self/mountinfo shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourcePropagation {
    /// Neither gives nor takes.
    #[default]
    Private,
    /// Takes (`master:`).
    Slave,
    /// Gives and takes (`shared:`).
    Shared,
}

/// An image that is mounted as a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageVolume {
    /// A read-only mount of the image, or the one layer that it is; `image_sub_path` followed within it.
    pub path: PathBuf,
}
