//! One answer to Prometheus: the counts, and the states as they are now. It keeps nothing.

use std::fs;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::COUNTS;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::record::{ContainerStage, SandboxStage};

/// The text, in OpenMetrics' format.
pub fn text(node: &Node) -> Result<String> {
    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("rt_cri");
    COUNTS.register(ours);
    objects(ours, node);
    images(ours, node);
    shims(ours, node);
    process(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Error::internal(format!("write metrics: {error}")))?;
    Ok(text)
}

type ByState = Family<[(&'static str, &'static str); 1], Gauge>;

fn objects(registry: &mut Registry, node: &Node) {
    let (sandboxes, containers) = (ByState::default(), ByState::default());
    for state in ["ready", "notready"] {
        drop(sandboxes.get_or_create(&[("state", state)])); // none is 0, not absent
    }
    for state in ["created", "running", "exited", "unknown"] {
        drop(containers.get_or_create(&[("state", state)]));
    }
    for sandbox in node.sandboxes.all().iter().filter(|sandbox| sandbox.is_listed()) {
        let state = if sandbox.stage() == SandboxStage::Ready { "ready" } else { "notready" };
        sandboxes.get_or_create(&[("state", state)]).inc();
    }
    for container in node.containers.all() {
        let state = match container.stage() {
            ContainerStage::Making => continue,
            ContainerStage::Created => "created",
            ContainerStage::Running => "running",
            ContainerStage::Exited => "exited",
            ContainerStage::Unknown => "unknown",
        };
        containers.get_or_create(&[("state", state)]).inc();
    }
    registry.register("sandboxes", "Pod sandboxes that clients see", sandboxes);
    registry.register("containers", "Containers that clients see", containers);
}

fn images(registry: &mut Registry, node: &Node) {
    registry.register("images", "Images that can be used", gauge(node.images.list().len() as u64));
    let usage = node.images.fs_usage();
    let help = "What the layers of all images take on disk";
    registry.register_with_unit("image_store", help, Unit::Bytes, gauge(usage.bytes));
    registry.register("image_store_inodes", "Files of the layers of all images", gauge(usage.inodes));
}

/// Memory that a shim has for itself: what it shares with others is one copy for all.
fn shims(registry: &mut Registry, node: &Node) {
    let mut memory = (0, 0);
    for sandbox in node.sandboxes.all() {
        let pid = sandbox.status.look(|status| status.shim_pid);
        if let Some([_, resident, shared]) = (pid != 0).then(|| pages(&pid.to_string())).flatten() {
            memory = (memory.0 + 1, memory.1 + resident.saturating_sub(shared) * page_size());
        }
    }
    registry.register("shims", "Shims that live", gauge(memory.0));
    registry.register_with_unit(
        "shim_memory",
        "Memory that shims share with nobody",
        Unit::Bytes,
        gauge(memory.1),
    );
}

/// The server itself, under the names that all programs have.
fn process(registry: &mut Registry) {
    if let Some([size, resident, _]) = pages("self") {
        let help = "Resident memory";
        registry.register_with_unit(
            "process_resident_memory",
            help,
            Unit::Bytes,
            gauge(resident * page_size()),
        );
        let help = "Address space";
        registry.register_with_unit("process_virtual_memory", help, Unit::Bytes, gauge(size * page_size()));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        registry.register("process_open_fds", "Open descriptors", gauge(open.count() as u64));
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    registry.register("process_max_fds", "Most open descriptors", gauge(most.unwrap_or(u64::MAX)));
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    let help = "Time on CPUs";
    registry.register_with_unit("process_cpu", help, Unit::Seconds, ConstCounter::new(seconds));
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Pages of address space, resident ones, shared ones.
fn pages(process: &str) -> Option<[u64; 3]> {
    let text = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}
