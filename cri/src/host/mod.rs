//! What this host is and can do, looked at once at start. It changes nothing.

pub mod apparmor;
mod devices;
mod mounts;
pub mod shims;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{Capability, PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

pub use devices::{all as all_devices, nodes};
pub use mounts::Mounts;

use crate::api;
use crate::config::{CgroupDriver, Config};
use crate::error::{Context, Result};
use crate::oci::{Driver, Host};

/// KERNEL: include/uapi/linux/capability.h
const CAP_SYS_RESOURCE: u32 = 24;

/// Looks.
pub fn look(config: &Config) -> Result<Host> {
    let controllers = controllers();
    let status = std::fs::read_to_string("/proc/self/status").what(|| "read /proc/self/status")?;
    let kernel = kernel();
    Ok(Host {
        hostname: hostname(),
        driver: driver(config.cgroup.driver),
        missing: config.cgroup.missing,
        swap: counts_swap(&controllers),
        controllers,
        capabilities: capabilities(mask(&status, "CapBnd:")),
        oom_score_adj: number("/proc/self/oom_score_adj"),
        lowers_oom_score: mask(&status, "CapEff:") & (1 << CAP_SYS_RESOURCE) != 0,
        rlimits: rlimits(),
        apparmor: apparmor::look(),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        recursive_readonly: kernel >= (5, 12),
        idmapped_mounts: kernel >= (5, 19),
        devices: devices::all(),
    })
}

/// Where the host has its cgroup2: as the runtime finds it.
pub fn cgroup_mount() -> Option<PathBuf> {
    runtime::parent::cgroup::Mount::find().ok().map(|mount| mount.path)
}

/// The host as a container with this config needs it: of what changes while the server runs, that is looked at anew which the
/// config depends on.
pub fn now(known: &Arc<Host>, config: &api::ContainerConfig) -> Arc<Host> {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let is_privileged = context.is_some_and(|context| context.privileged);
    let mut host = Arc::clone(known);
    if is_privileged {
        Arc::make_mut(&mut host).devices = devices::all();
    } else if host.apparmor.is_some() {
        // Profiles come and go; also ours goes where somebody removes what has no file in /etc/apparmor.d.
        let now = apparmor::look_and_load();
        if now != host.apparmor {
            Arc::make_mut(&mut host).apparmor = now;
        }
    }
    host
}

/// Who makes cgroups: what is configured, or systemd where it is the init.
pub fn driver(configured: CgroupDriver) -> Driver {
    match configured {
        CgroupDriver::Cgroupfs => Driver::Cgroupfs,
        CgroupDriver::Systemd => Driver::Systemd,
        // SPEC: sd_booted(3)
        CgroupDriver::Auto if Path::new("/run/systemd/system").is_dir() => Driver::Systemd,
        CgroupDriver::Auto => Driver::Cgroupfs,
    }
}

/// The running kernel's version.
pub fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn controllers() -> BTreeSet<String> {
    let list = cgroup_mount().and_then(|root| std::fs::read_to_string(root.join("cgroup.controllers")).ok());
    list.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The root cgroup has no such file: its children have, if the kernel counts swap.
fn counts_swap(controllers: &BTreeSet<String>) -> bool {
    if !controllers.contains("memory") {
        return false;
    }
    let Some(entries) = cgroup_mount().and_then(|root| std::fs::read_dir(root).ok()) else { return false };
    entries.flatten().any(|entry| entry.path().join("memory.swap.max").exists())
}

fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
}

fn capabilities(bounding: u64) -> HashSet<Capability> {
    let last = number("/proc/sys/kernel/cap_last_cap");
    let known = u64::MAX >> (63 - last.clamp(0, 63));
    let names = runtime::plan::capabilities::each(bounding & known);
    names.filter_map(|name| serde_json::from_value(name.into()).ok()).collect()
}

fn number(path: &str) -> i32 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What systemd gives its services: a soft limit that select(2) can live with, a hard one that programs may raise it to.
fn rlimits() -> Vec<PosixRlimit> {
    let hard = hard_limit().min(524_288);
    PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(hard.min(1024))
        .hard(hard)
        .build()
        .into_iter()
        .collect()
}

fn hard_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_come_from_the_mask() {
        let found = capabilities(0b11 | 1 << 21);
        let names = [Capability::Chown, Capability::DacOverride, Capability::SysAdmin];
        assert_eq!(found, names.into_iter().collect());
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let host = look(&Config::default()).expect("look");
        assert!(!host.hostname.is_empty());
        assert!(kernel() > (5, 0));
        assert!(host.devices.iter().any(|node| node.path == Path::new("/dev/null")));
    }
}
