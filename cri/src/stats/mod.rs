//! What pods and containers use: CRI's statistics and metrics, from cgroup v2's files, the pod's interfaces and a walk of the
//! writable layer. It changes nothing, and what the host does not count is absent, not zero.

mod attributes;
mod cgroup;
mod layer;
mod metrics;
mod open_files;
mod quota;
mod usage;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::cgroup::{Cgroup, Name};
use self::layer::{Layers, Size};
use self::usage::{Group, value};
use crate::api;
use crate::error::{Error, Result};
use crate::node::{Container, Node, Sandbox};
use crate::record::{ContainerStage, SandboxStage};
use crate::sandbox::list::has_labels;

pub use self::attributes::{Fields, shorter};
pub use self::metrics::{descriptors, pods as pod_metrics};

/// Threads that read cgroups for one answer: asked for once, since that reads files itself.
static READERS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));
/// How many cgroups one of them reads before a second thread is worth its start.
const ENOUGH: usize = 32;
/// How often it is looked whose cgroup is gone: that costs a call for each.
const TIDY: Duration = Duration::from_secs(10);

/// What is kept between questions: open files, earlier samples, sizes of layers.
#[derive(Debug, Default)]
pub struct Stats {
    groups: Mutex<HashMap<PathBuf, Arc<Mutex<Group>>>>,
    layers: Layers,
    tidied: Mutex<Option<Instant>>,
}

impl Stats {
    /// `root`: what has the writable layers.
    pub fn open(root: &Path) -> Self {
        Self { layers: Layers::open(root), ..Self::default() }
    }

    /// Has a container's new, empty directories counted together, where the file system can.
    pub fn count(&self, directories: &[&Path]) -> Result<()> {
        self.layers.quotas.mark(directories)
    }

    /// Looks at a cgroup that began at `since`; none if it is not there.
    fn look<T>(&self, folder: &Path, since: i64, look: impl FnOnce(&mut Group) -> T) -> T {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(Group::new(Cgroup::new(folder.to_owned()), since)));
        let group = Arc::clone(groups.entry(folder.to_owned()).or_insert_with(new));
        drop(groups);
        // What follows asks the kernel: others are read meanwhile.
        look(&mut group.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets cgroups and layers of what is gone, now and then.
    fn forget(&self, node: &Node) {
        let before = &mut *self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some_and(|before| before.elapsed() < TIDY) {
            return;
        }
        *before = Some(Instant::now());
        let containers = node.containers.all();
        let ids: HashSet<&str> = containers.iter().map(|container| container.id.as_str()).collect();
        self.layers.keep(|id| ids.contains(id));
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|folder, _| folder.exists());
    }
}

/// Nanoseconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// ContainerStats. Errors: NotFound.
pub async fn container(node: &Arc<Node>, id: &str) -> Result<api::ContainerStats> {
    let container = node.containers.find(id)?.filter(|container| container.is_listed());
    let container = container
        .ok_or_else(|| Error::not_found(format!("container {} does not exist", crate::table::shown(id))))?;
    let mut all = measured(node, vec![container], std::convert::identity).await?;
    all.pop().ok_or_else(|| Error::internal("measure a container"))
}

/// ListContainerStats; each as `make` has it, on the thread that read it.
pub async fn containers<T: Send + 'static>(
    node: &Arc<Node>,
    filter: Option<&api::ContainerStatsFilter>,
    make: fn(api::ContainerStats) -> T,
) -> Result<Vec<T>> {
    let fits = |container: &Arc<Container>| {
        container.is_listed()
            && filter.is_none_or(|filter| {
                container.id.starts_with(&filter.id)
                    && container.sandbox.starts_with(&filter.pod_sandbox_id)
                    && has_labels(&container.config.labels, &filter.label_selector)
            })
    };
    let all = node.containers.all().into_iter().filter(fits).collect();
    if filter.is_none() {
        node.stats.forget(node);
    }
    measured(node, all, make).await
}

/// PodSandboxStats. Errors: NotFound.
pub async fn sandbox(node: &Arc<Node>, id: &str) -> Result<api::PodSandboxStats> {
    let sandbox = node.sandboxes.find(id)?.filter(|sandbox| sandbox.is_listed());
    let sandbox = sandbox
        .ok_or_else(|| Error::not_found(format!("sandbox {} does not exist", crate::table::shown(id))))?;
    pod(node, &sandbox).await
}

/// ListPodSandboxStats.
pub async fn sandboxes(
    node: &Arc<Node>,
    filter: Option<&api::PodSandboxStatsFilter>,
) -> Result<Vec<api::PodSandboxStats>> {
    let mut all = Vec::new();
    for sandbox in node.sandboxes.all() {
        let fits = filter.is_none_or(|filter| {
            sandbox.id.starts_with(&filter.id) && has_labels(&sandbox.config.labels, &filter.label_selector)
        });
        if fits && sandbox.is_listed() {
            all.push(pod(node, &sandbox).await?);
        }
    }
    Ok(all)
}

async fn pod(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<api::PodSandboxStats> {
    let own = node.containers.all().into_iter();
    let own = own.filter(|container| container.sandbox == sandbox.id && container.is_listed()).collect();
    let containers = measured(node, own, std::convert::identity).await?;
    let (node, sandbox) = (Arc::clone(node), Arc::clone(sandbox));
    on_thread(move || pod_stats(&node, &sandbox, containers)).await
}

fn pod_stats(node: &Node, sandbox: &Sandbox, containers: Vec<api::ContainerStats>) -> api::PodSandboxStats {
    let ready = sandbox.stage() == SandboxStage::Ready;
    let folder = pod_folder(sandbox).filter(|_| ready);
    let (usage, pids) = match folder {
        Some(folder) => node.stats.look(&folder, sandbox.created_at, |group| {
            (group.usage(), group.files.number(Name::PidsCurrent))
        }),
        None => Default::default(),
    };
    let network = Some(sandbox).filter(|sandbox| ready && !sandbox.is_on_host_network()).and_then(network);
    api::PodSandboxStats {
        attributes: Some(api::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        }),
        linux: Some(api::LinuxPodSandboxStats {
            cpu: usage.cpu,
            memory: usage.memory,
            network,
            process: pids
                .map(|pids| api::ProcessUsage { timestamp: now(), process_count: value(Some(pids)) }),
            containers,
            io: usage.io,
        }),
        windows: None,
    }
}

async fn measured<T: Send + 'static>(
    node: &Arc<Node>,
    all: Vec<Arc<Container>>,
    make: fn(api::ContainerStats) -> T,
) -> Result<Vec<T>> {
    let layers = all.iter().map(|container| (container.id.clone(), upper(node, container))).collect();
    let sizes = node.stats.layers.sizes(layers).await;
    let sizes = Arc::new(sizes);
    let mount = Arc::new(crate::host::cgroup_mount());
    // Nearly all of it is the kernel's time, which it spends on several cores as gladly.
    let parts = all.chunks(all.len().div_ceil(*READERS).max(ENOUGH)).map(|part| {
        let (node, sizes, mount, part) =
            (Arc::clone(node), Arc::clone(&sizes), Arc::clone(&mount), part.to_vec());
        on_thread(move || {
            let of = |container: &Arc<Container>| make(stats(&node, container, mount.as_deref(), &sizes));
            part.iter().map(of).collect::<Vec<_>>()
        })
    });
    Ok(futures_util::future::try_join_all(parts).await?.into_iter().flatten().collect())
}

fn stats(
    node: &Node,
    container: &Container,
    mount: Option<&Path>,
    sizes: &HashMap<String, Size>,
) -> api::ContainerStats {
    let folder = folder(container, mount);
    let usage = folder.map(|folder| {
        let since = container.status.look(|status| status.started_at);
        node.stats.look(&folder, since, Group::usage)
    });
    let usage = usage.unwrap_or_default();
    let writable_layer = sizes.get(&container.id).map(|size| api::FilesystemUsage {
        timestamp: size.at,
        fs_id: Some(api::FilesystemIdentifier { mountpoint: node.paths.root.display().to_string() }),
        used_bytes: value(Some(size.bytes)),
        inodes_used: value(Some(size.inodes)),
    });
    api::ContainerStats {
        attributes: Some(container.attributes.get_or_init(|| attributes::of(container)).clone()),
        cpu: usage.cpu,
        memory: usage.memory,
        writable_layer,
        swap: usage.swap,
        io: usage.io,
    }
}

/// A running container's cgroup.
fn folder(container: &Container, mount: Option<&Path>) -> Option<PathBuf> {
    let (stage, path) = container.status.look(|status| (status.stage, status.cgroup.clone()));
    (stage == ContainerStage::Running && !path.is_empty())
        .then(|| Some(mount?.join(path.trim_start_matches('/'))))?
}

/// The cgroup that a pod's containers are made in.
fn pod_folder(sandbox: &Sandbox) -> Option<PathBuf> {
    let mount = crate::host::cgroup_mount()?;
    let parent = sandbox.cgroup_parent.as_str();
    if parent.trim_matches('/').is_empty() {
        return None;
    }
    Some(match parent.rsplit('/').next().and_then(|name| name.strip_suffix(".slice")) {
        Some(_) if !parent.contains('/') => mount.join(nested(parent)),
        _ => mount.join(parent.trim_start_matches('/')),
    })
}

/// Where systemd puts a slice: `a-b.slice` lies in `a.slice`.
fn nested(slice: &str) -> PathBuf {
    let stem = slice.trim_end_matches(".slice");
    let ends = stem.match_indices('-').map(|(index, _)| index).chain([stem.len()]);
    ends.map(|end| format!("{}.slice", &stem[..end])).collect()
}

fn upper(node: &Node, container: &Container) -> PathBuf {
    node.paths.container_record(&container.id).join("upper")
}

/// What the pod's interfaces have carried, as its pause process sees them.
fn network(sandbox: &Sandbox) -> Option<api::NetworkUsage> {
    let interfaces: Vec<_> =
        interfaces(sandbox)?.into_iter().filter(|interface| interface.name != "lo").collect();
    let usage = |interface: &Interface| api::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: value(Some(interface.received[0])),
        rx_errors: value(Some(interface.received[2])),
        tx_bytes: value(Some(interface.sent[0])),
        tx_errors: value(Some(interface.sent[2])),
    };
    let default = interfaces.iter().find(|interface| interface.name == "eth0").or(interfaces.first());
    Some(api::NetworkUsage {
        timestamp: now(),
        default_interface: default.map(usage),
        interfaces: interfaces.iter().map(usage).collect(),
    })
}

/// Bytes, packets, errors and drops of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    received: [u64; 4],
    sent: [u64; 4],
}

fn interfaces(sandbox: &Sandbox) -> Option<Vec<Interface>> {
    let pid = sandbox.status.look(|status| status.pause_pid);
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok().filter(|_| pid != 0)?;
    Some(text.lines().filter_map(interface).collect())
}

fn interface(line: &str) -> Option<Interface> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let four = |from: usize| numbers.get(from..from + 4)?.try_into().ok();
    Some(Interface { name: name.trim().to_owned(), received: four(0)?, sent: four(8)? })
}

/// Reading a thousand cgroups takes milliseconds: not on a thread that serves others.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal(format!("statistics ended: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_those_that_their_names_begin_with() {
        assert_eq!(
            nested("kubepods-burstable-pod1.slice"),
            Path::new("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice")
        );
        assert_eq!(nested("system.slice"), Path::new("system.slice"));
    }

    #[test]
    fn lines_of_interfaces_are_read() {
        let line = "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0";
        let expected = Interface { name: "eth0".to_owned(), received: [1, 2, 3, 4], sent: [5, 6, 7, 8] };
        assert_eq!(interface(line), Some(expected));
        assert_eq!(interface(" face |bytes    packets errs drop"), None);
    }
}
