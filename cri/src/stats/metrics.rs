//! ListMetricDescriptors and ListPodSandboxMetrics: names and labels are cAdvisor's, so that dashboards work unchanged.
//!
//! CRI's values are whole numbers: seconds are cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroup::{Cgroup, Name, Pressure};
use super::{Interface, folder, interfaces, now, on_thread, pod_folder, upper};
use crate::api;
use crate::error::Result;
use crate::node::{Container, Node, Sandbox};
use crate::record::SandboxStage;

use api::MetricType::{Counter, Gauge};

/// The labels of every metric.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// Name, type, labels beyond [`LABELS`], help.
type Descriptor = (&'static str, api::MetricType, &'static [&'static str], &'static str);

const DESCRIPTORS: [Descriptor; 53] = [
    (
        "container_blkio_device_usage_total",
        Counter,
        &["device", "major", "minor", "operation"],
        "Bytes read from and written to a block device",
    ),
    (
        "container_cpu_cfs_periods_total",
        Counter,
        &[],
        "Enforcement periods of the CPU quota that have passed",
    ),
    ("container_cpu_cfs_throttled_periods_total", Counter, &[], "Periods in which the CPU quota was used up"),
    ("container_cpu_cfs_throttled_seconds_total", Counter, &[], "Seconds that were spent throttled"),
    ("container_cpu_system_seconds_total", Counter, &[], "CPU seconds used in the kernel"),
    ("container_cpu_usage_seconds_total", Counter, &["cpu"], "CPU seconds used"),
    ("container_cpu_user_seconds_total", Counter, &[], "CPU seconds used in user space"),
    ("container_file_descriptors", Gauge, &[], "Open file descriptors"),
    ("container_fs_inodes_free", Gauge, &["device"], "Free inodes of the file system"),
    ("container_fs_inodes_total", Gauge, &["device"], "Inodes of the file system"),
    ("container_fs_limit_bytes", Gauge, &["device"], "Size of the file system"),
    ("container_fs_reads_bytes_total", Counter, &["device"], "Bytes read"),
    ("container_fs_reads_total", Counter, &["device"], "Reads completed"),
    ("container_fs_usage_bytes", Gauge, &["device"], "Bytes that the container's writable layer takes"),
    ("container_fs_writes_bytes_total", Counter, &["device"], "Bytes written"),
    ("container_fs_writes_total", Counter, &["device"], "Writes completed"),
    ("container_last_seen", Gauge, &[], "When the container was last seen, seconds since the epoch"),
    ("container_memory_cache", Gauge, &[], "Bytes of page cache"),
    ("container_memory_failcnt", Counter, &[], "How often memory use hit its limit"),
    ("container_memory_failures_total", Counter, &["failure_type", "scope"], "Page faults"),
    ("container_memory_kernel_usage", Gauge, &[], "Bytes of kernel memory"),
    ("container_memory_mapped_file", Gauge, &[], "Bytes of memory-mapped files"),
    ("container_memory_max_usage_bytes", Gauge, &[], "The most bytes of memory that were used"),
    ("container_memory_rss", Gauge, &[], "Bytes of anonymous memory"),
    ("container_memory_swap", Gauge, &[], "Bytes of swap used"),
    ("container_memory_usage_bytes", Gauge, &[], "Bytes of memory used, with caches"),
    ("container_memory_working_set_bytes", Gauge, &[], "Bytes of memory used, without inactive files"),
    ("container_network_receive_bytes_total", Counter, &["interface"], "Bytes received"),
    ("container_network_receive_errors_total", Counter, &["interface"], "Errors while receiving"),
    (
        "container_network_receive_packets_dropped_total",
        Counter,
        &["interface"],
        "Packets dropped while receiving",
    ),
    ("container_network_receive_packets_total", Counter, &["interface"], "Packets received"),
    ("container_network_transmit_bytes_total", Counter, &["interface"], "Bytes sent"),
    ("container_network_transmit_errors_total", Counter, &["interface"], "Errors while sending"),
    (
        "container_network_transmit_packets_dropped_total",
        Counter,
        &["interface"],
        "Packets dropped while sending",
    ),
    ("container_network_transmit_packets_total", Counter, &["interface"], "Packets sent"),
    ("container_oom_events_total", Counter, &[], "Processes killed for want of memory"),
    (
        "container_pressure_cpu_stalled_seconds_total",
        Counter,
        &[],
        "Seconds in which all processes waited for a CPU",
    ),
    (
        "container_pressure_cpu_waiting_seconds_total",
        Counter,
        &[],
        "Seconds in which some process waited for a CPU",
    ),
    (
        "container_pressure_io_stalled_seconds_total",
        Counter,
        &[],
        "Seconds in which all processes waited for a disk",
    ),
    (
        "container_pressure_io_waiting_seconds_total",
        Counter,
        &[],
        "Seconds in which some process waited for a disk",
    ),
    (
        "container_pressure_memory_stalled_seconds_total",
        Counter,
        &[],
        "Seconds in which all processes waited for memory",
    ),
    (
        "container_pressure_memory_waiting_seconds_total",
        Counter,
        &[],
        "Seconds in which some process waited for memory",
    ),
    ("container_processes", Gauge, &[], "Processes"),
    ("container_sockets", Gauge, &[], "Open sockets"),
    ("container_spec_cpu_period", Gauge, &[], "The CPU quota's period, microseconds"),
    ("container_spec_cpu_quota", Gauge, &[], "The CPU quota, microseconds in each period"),
    ("container_spec_cpu_shares", Gauge, &[], "CPU shares"),
    ("container_spec_memory_limit_bytes", Gauge, &[], "The limit of memory"),
    ("container_spec_memory_reservation_limit_bytes", Gauge, &[], "The memory that is protected"),
    ("container_spec_memory_swap_limit_bytes", Gauge, &[], "The limit of memory with swap"),
    ("container_start_time_seconds", Gauge, &[], "When the container was started, seconds since the epoch"),
    ("container_threads", Gauge, &[], "Threads"),
    ("container_threads_max", Gauge, &[], "The limit of threads; 0: none"),
];

/// ListMetricDescriptors.
pub fn descriptors() -> Vec<api::MetricDescriptor> {
    let descriptor = |(name, _, more, help): &Descriptor| api::MetricDescriptor {
        name: (*name).to_owned(),
        help: (*help).to_owned(),
        label_keys: LABELS.iter().chain(*more).map(|label| (*label).to_owned()).collect(),
    };
    DESCRIPTORS.iter().map(descriptor).collect()
}

/// ListPodSandboxMetrics: of ready pods and their running containers.
pub async fn pods(node: &Arc<Node>) -> Result<Vec<api::PodSandboxMetrics>> {
    let layers = node
        .containers
        .all()
        .iter()
        .map(|container| (container.id.clone(), upper(node, container)))
        .collect();
    // Walks what is old; the values are taken below.
    let sizes = node.stats.layers.sizes(layers).await;
    let node = Arc::clone(node);
    on_thread(move || {
        let ready = node.sandboxes.all().into_iter().filter(|sandbox| sandbox.stage() == SandboxStage::Ready);
        let containers = node.containers.all();
        let of_pod = |sandbox: Arc<Sandbox>| api::PodSandboxMetrics {
            pod_sandbox_id: sandbox.id.clone(),
            metrics: pod(&node, &sandbox),
            container_metrics: containers
                .iter()
                .filter(|container| container.sandbox == sandbox.id)
                .filter_map(|container| {
                    let size = sizes.get(&container.id).map(|size| size.bytes);
                    let metrics = of_container(&node, &sandbox, container, size)?;
                    Some(api::ContainerMetrics { container_id: container.id.clone(), metrics })
                })
                .collect(),
        };
        ready.map(of_pod).collect()
    })
    .await
}

/// Metrics of one pod or container in the making.
struct Sheet {
    labels: [String; LABELS.len()],
    at: i64,
    metrics: Vec<api::Metric>,
}

impl Sheet {
    /// What is absent is left out.
    fn put(&mut self, name: &str, more: &[&str], number: Option<u64>) {
        let known = DESCRIPTORS.iter().find(|(known, ..)| *known == name);
        let (Some(number), Some((_, kind, ..))) = (number, known) else { return };
        let labels = self.labels.iter().cloned().chain(more.iter().map(|label| (*label).to_owned()));
        self.metrics.push(api::Metric {
            name: name.to_owned(),
            timestamp: self.at,
            metric_type: *kind as i32,
            label_values: labels.collect(),
            value: Some(api::UInt64Value { value: number }),
        });
    }
}

fn pod(node: &Node, sandbox: &Sandbox) -> Vec<api::Metric> {
    let metadata = sandbox.config.metadata.clone().unwrap_or_default();
    let folder = pod_folder(sandbox);
    let id = folder.as_ref().map_or_else(String::new, |folder| cgroup_id(folder));
    let labels = [String::new(), id, String::new(), String::new(), metadata.namespace, metadata.name];
    let mut sheet = Sheet { labels, at: now(), metrics: Vec::new() };
    if let Some(folder) = folder {
        node.stats.look(&folder, sandbox.created_at, |group| of_cgroup(&mut sheet, &mut group.files));
    }
    if !sandbox.is_on_host_network() {
        for interface in
            interfaces(sandbox).unwrap_or_default().iter().filter(|interface| interface.name != "lo")
        {
            of_interface(&mut sheet, interface);
        }
    }
    sheet.metrics
}

fn of_container(
    node: &Node,
    sandbox: &Sandbox,
    container: &Container,
    layer: Option<u64>,
) -> Option<Vec<api::Metric>> {
    let folder = folder(container, crate::host::cgroup_mount().as_deref())?;
    let pod = sandbox.config.metadata.clone().unwrap_or_default();
    let name = container.config.metadata.clone().unwrap_or_default().name;
    let labels = [
        name,
        cgroup_id(&folder),
        container.image_ref.clone(),
        container.id.clone(),
        pod.namespace,
        pod.name,
    ];
    let mut sheet = Sheet { labels, at: now(), metrics: Vec::new() };
    let (started, resources) = container.status.look(|status| (status.started_at, status.resources.clone()));
    node.stats.look(&folder, started, |group| of_cgroup(&mut sheet, &mut group.files));
    of_processes(&mut sheet, &folder);
    of_file_system(&mut sheet, &node.paths.root, layer);
    let positive = |number: i64| u64::try_from(number).ok();
    sheet.put("container_spec_cpu_period", &[], positive(resources.cpu_period));
    sheet.put("container_spec_cpu_quota", &[], positive(resources.cpu_quota).filter(|quota| *quota > 0));
    sheet.put("container_spec_cpu_shares", &[], positive(resources.cpu_shares));
    sheet.put("container_spec_memory_limit_bytes", &[], positive(resources.memory_limit_in_bytes));
    sheet.put("container_spec_memory_swap_limit_bytes", &[], positive(resources.memory_swap_limit_in_bytes));
    sheet.put("container_start_time_seconds", &[], positive(started / 1_000_000_000));
    sheet.put("container_last_seen", &[], positive(now() / 1_000_000_000));
    Some(sheet.metrics)
}

/// As cAdvisor names cgroups: their path below the mount.
fn cgroup_id(folder: &Path) -> String {
    let mount = crate::host::cgroup_mount().unwrap_or_default();
    format!("/{}", folder.strip_prefix(mount).unwrap_or(folder).display())
}

fn of_cgroup(sheet: &mut Sheet, files: &mut Cgroup) {
    let seconds = |micros: Option<u64>| micros.map(|micros| micros / 1_000_000);
    let keys = ["usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"];
    let [usage, user, system, periods, throttled, throttled_time] =
        files.values(Name::CpuStat, keys).unwrap_or_default();
    sheet.put("container_cpu_usage_seconds_total", &["total"], seconds(usage));
    sheet.put("container_cpu_user_seconds_total", &[], seconds(user));
    sheet.put("container_cpu_system_seconds_total", &[], seconds(system));
    sheet.put("container_cpu_cfs_periods_total", &[], periods);
    sheet.put("container_cpu_cfs_throttled_periods_total", &[], throttled);
    sheet.put("container_cpu_cfs_throttled_seconds_total", &[], seconds(throttled_time));
    of_memory(sheet, files);
    for device in files.devices().unwrap_or_default() {
        let (major, minor) = device.number.split_once(':').unwrap_or((&device.number, ""));
        for (operation, bytes) in [("Read", device.read_bytes), ("Write", device.write_bytes)] {
            let labels = [device.number.as_str(), major, minor, operation];
            sheet.put("container_blkio_device_usage_total", &labels, Some(bytes));
        }
        sheet.put("container_fs_reads_bytes_total", &[&device.number], Some(device.read_bytes));
        sheet.put("container_fs_writes_bytes_total", &[&device.number], Some(device.write_bytes));
        sheet.put("container_fs_reads_total", &[&device.number], Some(device.reads));
        sheet.put("container_fs_writes_total", &[&device.number], Some(device.writes));
    }
    for (what, name) in
        [("cpu", Name::CpuPressure), ("io", Name::IoPressure), ("memory", Name::MemoryPressure)]
    {
        of_pressure(sheet, what, files.pressure(name));
    }
    sheet.put("container_threads", &[], files.number(Name::PidsCurrent));
    let limit = files.text(Name::PidsMax, |text| Some(text.trim().parse().unwrap_or(0)));
    sheet.put("container_threads_max", &[], limit);
}

fn of_memory(sheet: &mut Sheet, files: &mut Cgroup) {
    let Some(usage) = files.number(Name::MemoryCurrent) else { return };
    let keys = ["file", "anon", "file_mapped", "kernel", "inactive_file", "pgfault", "pgmajfault"];
    let [cache, rss, mapped, kernel, inactive, faults, major] =
        files.values(Name::MemoryStat, keys).unwrap_or_default();
    sheet.put("container_memory_usage_bytes", &[], Some(usage));
    sheet.put("container_memory_working_set_bytes", &[], Some(usage.saturating_sub(inactive.unwrap_or(0))));
    sheet.put("container_memory_cache", &[], cache);
    sheet.put("container_memory_rss", &[], rss);
    sheet.put("container_memory_mapped_file", &[], mapped);
    sheet.put("container_memory_kernel_usage", &[], kernel);
    sheet.put("container_memory_max_usage_bytes", &[], files.number(Name::MemoryPeak));
    sheet.put("container_memory_swap", &[], files.number(Name::SwapCurrent));
    sheet.put("container_spec_memory_reservation_limit_bytes", &[], files.number(Name::MemoryLow));
    for (kind, number) in [("pgfault", faults), ("pgmajfault", major)] {
        sheet.put("container_memory_failures_total", &[kind, "hierarchy"], number);
    }
    let [hits, kills] = files.values(Name::MemoryEvents, ["max", "oom_kill"]).unwrap_or_default();
    sheet.put("container_memory_failcnt", &[], hits);
    sheet.put("container_oom_events_total", &[], kills);
}

fn of_pressure(sheet: &mut Sheet, what: &str, pressure: Option<Pressure>) {
    let Some(pressure) = pressure else { return };
    for (kind, waiting) in [("waiting", pressure.some), ("stalled", pressure.full)] {
        let name = format!("container_pressure_{what}_{kind}_seconds_total");
        sheet.put(&name, &[], Some(waiting.total_us / 1_000_000));
    }
}

fn of_interface(sheet: &mut Sheet, interface: &Interface) {
    for (way, numbers) in [("receive", interface.received), ("transmit", interface.sent)] {
        for (what, number) in ["bytes", "packets", "errors", "packets_dropped"].iter().zip(numbers) {
            let name = format!("container_network_{way}_{what}_total");
            sheet.put(&name, &[&interface.name], Some(number));
        }
    }
}

/// Processes, descriptors and sockets of the cgroup itself. What would take more than [`super::open_files::LOOKS`] looks is left out.
fn of_processes(sheet: &mut Sheet, folder: &Path) {
    let Ok(text) = std::fs::read_to_string(folder.join("cgroup.procs")) else { return };
    let tables = text.lines().map(|pid| PathBuf::from(format!("/proc/{pid}/fd")));
    let count = text.lines().count();
    let (descriptors, sockets) = super::open_files::count(tables, super::open_files::LOOKS);
    sheet.put("container_processes", &[], Some(count as u64));
    sheet.put("container_file_descriptors", &[], descriptors);
    sheet.put("container_sockets", &[], sockets);
}

fn of_file_system(sheet: &mut Sheet, root: &Path, layer: Option<u64>) {
    let device = root.display().to_string();
    sheet.put("container_fs_usage_bytes", &[&device], layer);
    if let Ok(system) = rustix::fs::statvfs(root) {
        sheet.put("container_fs_limit_bytes", &[&device], Some(system.f_blocks * system.f_frsize));
        sheet.put("container_fs_inodes_total", &[&device], Some(system.f_files));
        sheet.put("container_fs_inodes_free", &[&device], Some(system.f_ffree));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_its_descriptors_labels_and_absent_numbers_are_left_out() {
        let mut sheet = Sheet { labels: std::array::from_fn(|_| String::new()), at: 1, metrics: Vec::new() };
        let interface = Interface { name: "eth0".to_owned(), received: [1; 4], sent: [2; 4] };
        of_interface(&mut sheet, &interface);
        of_pressure(&mut sheet, "cpu", Some(Pressure::default()));
        of_file_system(&mut sheet, Path::new("/"), None);
        assert_eq!(sheet.metrics.len(), 8 + 2 + 3);
        let all = descriptors();
        for metric in &sheet.metrics {
            let descriptor = all.iter().find(|descriptor| descriptor.name == metric.name).unwrap();
            assert_eq!(descriptor.label_keys.len(), metric.label_values.len(), "{}", metric.name);
        }
    }
}
