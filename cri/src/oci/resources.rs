//! CRI's LinuxContainerResources → the runtime-spec's, for creating and for updating; and the rule for controllers that the
//! host lacks. It writes no cgroup files.

use oci_spec::runtime::LinuxResources;

use super::{Degraded, Host};
use crate::api;
use crate::error::{Error, Result};

/// The spec's form of `resources`, without what this host can't do.
pub fn linux(
    resources: &api::LinuxContainerResources,
    host: &Host,
) -> Result<(LinuxResources, Vec<Degraded>)> {
    let _ = (resources, host);
    Err(Error::unsupported("map resources"))
}

/// What is in force after an update: fields that `update` doesn't set stay.
pub fn merged(
    now: &api::LinuxContainerResources,
    update: &api::LinuxContainerResources,
) -> api::LinuxContainerResources {
    let mut all = now.clone();
    let number = |field: &mut i64, value: i64| {
        if value != 0 {
            *field = value;
        }
    };
    number(&mut all.cpu_period, update.cpu_period);
    number(&mut all.cpu_quota, update.cpu_quota);
    number(&mut all.cpu_shares, update.cpu_shares);
    number(&mut all.memory_limit_in_bytes, update.memory_limit_in_bytes);
    number(&mut all.memory_swap_limit_in_bytes, update.memory_swap_limit_in_bytes);
    number(&mut all.oom_score_adj, update.oom_score_adj);
    for (field, value) in
        [(&mut all.cpuset_cpus, &update.cpuset_cpus), (&mut all.cpuset_mems, &update.cpuset_mems)]
    {
        if !value.is_empty() {
            field.clone_from(value);
        }
    }
    for limit in &update.hugepage_limits {
        all.hugepage_limits.retain(|known| known.page_size != limit.page_size);
        all.hugepage_limits.push(limit.clone());
    }
    all.unified.extend(update.unified.clone());
    all
}
