//! CRI's LinuxContainerResources → the runtime-spec's, for creating and for updating; and the rule for controllers that the
//! host lacks. It writes no cgroup files.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use super::{Degraded, Host};
use crate::api;
use crate::config::Missing;
use crate::error::{Error, Result};

/// The spec's form of `resources`, without what this host can't do.
///
/// A limit that protects others (memory, CPU quota, CPU set, huge pages) and can't be set is an error, unless the configuration
/// says otherwise; weights, huge pages limited to zero and `memory.oom.group` are left out, and that is said.
pub fn linux(
    resources: &api::LinuxContainerResources,
    host: &Host,
) -> Result<(LinuxResources, Vec<Degraded>)> {
    let mut rule = Rule { host, degraded: Vec::new() };
    let mut all = LinuxResources::default();
    all.set_cpu(cpu(resources, &mut rule)?)
        .set_memory(memory(resources, &mut rule)?)
        .set_hugepage_limits(hugepages(resources, &mut rule)?)
        .set_unified(unified(resources, &mut rule)?);
    Ok((all, rule.degraded))
}

/// `process.oomScoreAdj`: what is asked for, or the lowest that the server may give.
pub fn oom_score_adj(wanted: i64, host: &Host) -> Result<(i32, Option<Degraded>)> {
    let score = i32::try_from(wanted)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| Error::invalid(format!("resources.oom_score_adj {wanted} is not in -1000..=1000")))?;
    if score >= host.oom_score_adj || host.lowers_oom_score {
        return Ok((score, None));
    }
    let own = host.oom_score_adj;
    let instead = format!("{own}: the server may not set less than its own (no CAP_SYS_RESOURCE)");
    Ok((own, Some(Degraded::new("resources.oom_score_adj", score, instead))))
}

/// What the pause process gets: the least weight, where there are weights.
pub fn of_pause(host: &Host) -> LinuxResources {
    let mut all = LinuxResources::default();
    if host.controllers.contains("cpu") {
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(Some(2));
        all.set_cpu(Some(cpu));
    }
    all
}

/// What is asked of a controller.
#[derive(Clone, Copy)]
enum Ask {
    /// Others rely on it.
    Limit,
    /// A matter of how much, not of whether.
    Weight,
}

/// The rule for missing controllers, and what it has decided.
struct Rule<'a> {
    host: &'a Host,
    degraded: Vec<Degraded>,
}

impl Rule<'_> {
    /// Whether it can be set; else it is said, or an error.
    fn allows(&mut self, controller: &str, field: &str, asked: &str, ask: Ask) -> Result<bool> {
        if self.host.controllers.contains(controller) {
            return Ok(true);
        }
        let missing = format!("the host has no cgroup controller {controller:?}");
        if matches!(ask, Ask::Limit) && self.host.missing == Missing::Error {
            return Err(Error::unsupported(format!("set resources.{field} {asked}: {missing}"))
                .cure("enable it, remove the limit, or set [cgroup] missing = \"ignore\" in the server's configuration"));
        }
        self.degraded.push(Degraded::new(
            format!("resources.{field}"),
            asked,
            format!("left out: {missing}"),
        ));
        Ok(false)
    }
}

fn positive(field: &str, value: i64) -> Result<Option<u64>> {
    let value =
        u64::try_from(value).map_err(|_| Error::invalid(format!("resources.{field} {value} is negative")))?;
    Ok(Some(value).filter(|value| *value != 0))
}

fn cpu(resources: &api::LinuxContainerResources, rule: &mut Rule<'_>) -> Result<Option<LinuxCpu>> {
    let mut cpu = LinuxCpu::default();
    let shares = positive("cpu_shares", resources.cpu_shares)?;
    if let Some(shares) = shares
        && rule.allows("cpu", "cpu_shares", &shares.to_string(), Ask::Weight)?
    {
        cpu.set_shares(Some(shares));
    }
    let period = positive("cpu_period", resources.cpu_period)?;
    let quota = resources.cpu_quota;
    if quota > 0 {
        if rule.allows("cpu", "cpu_quota", &quota.to_string(), Ask::Limit)? {
            cpu.set_quota(Some(quota)).set_period(period);
        }
    } else if rule.host.controllers.contains("cpu") && (quota < 0 || period.is_some()) {
        cpu.set_quota((quota < 0).then_some(-1)).set_period(period);
    }
    for (field, list) in [("cpuset_cpus", &resources.cpuset_cpus), ("cpuset_mems", &resources.cpuset_mems)] {
        if !list.is_empty() && rule.allows("cpuset", field, list, Ask::Limit)? {
            match field {
                "cpuset_cpus" => cpu.set_cpus(Some(list.clone())),
                _ => cpu.set_mems(Some(list.clone())),
            };
        }
    }
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

fn memory(resources: &api::LinuxContainerResources, rule: &mut Rule<'_>) -> Result<Option<LinuxMemory>> {
    let limit = resources.memory_limit_in_bytes;
    let swap = resources.memory_swap_limit_in_bytes;
    if limit > 0 && swap > 0 && swap < limit {
        return Err(Error::invalid(format!(
            "resources.memory_swap_limit_in_bytes {swap} is below memory_limit_in_bytes {limit}: it is the sum of memory and swap"
        )));
    }
    let mut memory = LinuxMemory::default();
    if limit > 0 && !rule.allows("memory", "memory_limit_in_bytes", &limit.to_string(), Ask::Limit)? {
        return Ok(None);
    }
    if !rule.host.controllers.contains("memory") {
        // No limit, and nothing to lift.
        return Ok(None);
    }
    if limit != 0 {
        memory.set_limit(Some(limit.max(-1)));
    }
    // The runtime-spec's swap is memory and swap together: as much as memory means no swap, which is what a limit means
    // where nothing is said about swap.
    let swap = match (limit, swap) {
        (1.., 0) => limit,
        (_, swap) => swap.max(-1),
    };
    match (swap, rule.host.swap) {
        (0, _) => {}
        (swap, true) => {
            memory.set_swap(Some(swap));
        }
        // A host that doesn't count swap can't limit it.
        (swap, false) if resources.memory_swap_limit_in_bytes > 0 => rule.degraded.push(Degraded::new(
            "resources.memory_swap_limit_in_bytes",
            swap,
            "left out: the host doesn't count swap (no memory.swap.max)",
        )),
        (_, false) => {}
    }
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

fn hugepages(
    resources: &api::LinuxContainerResources,
    rule: &mut Rule<'_>,
) -> Result<Option<Vec<LinuxHugepageLimit>>> {
    let mut limits = Vec::new();
    let (some, zero): (Vec<_>, Vec<_>) = resources.hugepage_limits.iter().partition(|limit| limit.limit != 0);
    for limit in some {
        let asked = format!("{} of {}", limit.limit, limit.page_size);
        if rule.allows("hugetlb", "hugepage_limits", &asked, Ask::Limit)? {
            limits.push(hugepage(limit)?);
        }
    }
    // A kubelet sends 0 for every size that it knows.
    let sizes: Vec<&str> = zero.iter().map(|limit| limit.page_size.as_str()).collect();
    if !zero.is_empty()
        && rule.allows("hugetlb", "hugepage_limits", &format!("0 of {}", sizes.join(", ")), Ask::Weight)?
    {
        for limit in zero {
            limits.push(hugepage(limit)?);
        }
    }
    Ok((!limits.is_empty()).then_some(limits))
}

fn hugepage(limit: &api::HugepageLimit) -> Result<LinuxHugepageLimit> {
    let bytes = i64::try_from(limit.limit).map_err(|_| {
        Error::invalid(format!("resources.hugepage_limits: {} bytes are too many", limit.limit))
    })?;
    let size = &limit.page_size;
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if digits.parse::<u64>().is_err() || !matches!(&size[digits.len()..], "KB" | "MB" | "GB") {
        return Err(Error::invalid(format!("resources.hugepage_limits: {size:?} is no page size"))
            .cure("such as 2MB or 1GB"));
    }
    let mut made = LinuxHugepageLimit::default();
    made.set_page_size(size.clone()).set_limit(bytes);
    Ok(made)
}

/// Files that only say how much of what is there.
const WEIGHTS: [&str; 6] =
    ["cpu.weight", "cpu.weight.nice", "cpu.idle", "io.weight", "io.bfq.weight", "memory.oom.group"];

fn unified(
    resources: &api::LinuxContainerResources,
    rule: &mut Rule<'_>,
) -> Result<Option<HashMap<String, String>>> {
    let mut files: Vec<(&String, &String)> = resources.unified.iter().collect();
    files.sort();
    let mut all = HashMap::new();
    for (file, value) in files {
        let Some((controller, _)) =
            file.split_once('.').filter(|(head, tail)| !head.is_empty() && !tail.is_empty())
        else {
            return Err(Error::invalid(format!("resources.unified: {file:?} is no file of a cgroup"))
                .cure("such as memory.high"));
        };
        if controller == "cgroup" || file.contains(['/', '\0']) {
            return Err(Error::invalid(format!("resources.unified: {file:?} is not for containers to set")));
        }
        let ask = if WEIGHTS.contains(&file.as_str()) { Ask::Weight } else { Ask::Limit };
        let lifted = value.trim() == "max" && !rule.host.controllers.contains(controller);
        if !lifted && rule.allows(controller, &format!("unified.{file}"), value.trim(), ask)? {
            all.insert(file.clone(), value.clone());
        }
    }
    Ok((!all.is_empty()).then_some(all))
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

#[cfg(test)]
mod tests;
