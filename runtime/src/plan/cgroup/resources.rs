//! `linux.resources` → the writes that set it on cgroup2, in the order in which the kernel takes them.
//!
//! Devices are not here: they are a program, see [`super::devices`].

use std::fmt::Display;

use super::convert;
use super::limits::{Need, OnError, Write};
use super::{MemoryCheck, Purpose};
use crate::error::{Error, Result};
use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// Writes and the check before them.
#[derive(Debug, Default)]
pub struct Limits {
    pub writes: Vec<Write>,
    pub memory_check: Option<MemoryCheck>,
}

/// Makes them.
pub fn plan(resources: &Resources, purpose: Purpose<'_>, warnings: &mut Vec<String>) -> Result<Limits> {
    let mut limits = Limits::default();
    let writes = &mut limits.writes;
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        pids(limit, writes);
    }
    if let Some(memory) = &resources.memory {
        limits.memory_check = plan_memory(memory, purpose, writes)?;
        memory_of_v1(memory, warnings);
    }
    if let Some(io) = &resources.block_io {
        plan_io(io, writes, warnings)?;
    }
    if let Some(cpu) = &resources.cpu {
        plan_cpu(cpu, purpose, writes)?;
    }
    hugepages(resources, writes)?;
    for (device, rdma) in resources.rdma.iter().flatten() {
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("linux.resources.rdma: {device:?} is no device name")));
        }
        let number = |n: Option<u32>| n.map_or("max".to_owned(), |n| n.to_string());
        let value = format!(
            "{device} hca_handle={} hca_object={}",
            number(rdma.hca_handles),
            number(rdma.hca_objects)
        );
        writes.push(Write::new("rdma.max", value, "rdma"));
    }
    unified(resources, writes)?;
    if resources.network.as_ref().is_some_and(|network| !is_nothing(network)) {
        warnings.push(ignored("network", "cgroup2 has no network classes and priorities"));
    }
    Ok(limits)
}

/// Engines write `"network": {}` and zeros for "nothing".
fn is_nothing(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Number(number) => number.as_f64() == Some(0.0),
        serde_json::Value::Array(all) => all.is_empty(),
        serde_json::Value::Object(all) => all.values().all(is_nothing),
        _ => false,
    }
}

fn ignored(field: &str, why: &str) -> String {
    format!("linux.resources.{field} is ignored: {why}")
}

fn invalid(text: impl Display) -> Error {
    Error::invalid(format!("linux.resources.{text}"))
}

/// Bytes or a number, or -1 for "no limit".
fn number_or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// A limit of 0 leaves room for the container process and nothing else. So does 1: whoever is in the cgroup already is not asked,
/// but to be born into it needs room for one, and systemd refuses 0.
fn pids(limit: i64, writes: &mut Vec<Write>) {
    let (value, need) = match limit {
        ..0 => ("max".to_owned(), Need::Lifts),
        _ => (limit.max(1).to_string(), Need::Required),
    };
    writes.push(Write::new("pids.max", value, "pids.limit").need(need));
}

fn plan_memory(
    memory: &Memory,
    purpose: Purpose<'_>,
    writes: &mut Vec<Write>,
) -> Result<Option<MemoryCheck>> {
    // 0 is "not given", as for runc.
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let in_force = match purpose {
        Purpose::Update(Some(resources)) => resources.memory.as_ref(),
        _ => None,
    };
    let limit = given(memory.limit);
    let known = limit.or_else(|| in_force.and_then(|memory| given(memory.limit)));
    let swap = match (limit, given(memory.swap)) {
        // Without a limit of memory, none of swap: it would only shift what is used.
        (Some(..0), None) => Some("max".to_owned()),
        // The sum of both stays, so the difference changes.
        (Some(limit), None) => match in_force.and_then(|memory| given(memory.swap)) {
            Some(swap) if swap > 0 => Some(swap_beyond(limit, swap)?),
            _ => None,
        },
        (_, None) => None,
        (_, Some(..0)) => Some("max".to_owned()),
        (_, Some(swap)) => match known {
            None => {
                return Err(invalid(format!("memory.swap {swap} needs memory.limit: it is the sum of both")));
            }
            Some(limit) => Some(swap_beyond(limit, swap)?),
        },
    };
    // ORDER: swap before memory: while memory is lowered, what it loses must have room where it may go, and no more.
    if let Some(value) = swap {
        // A kernel without swap has no file; then "no swap" is true already, but who asked for it shall know.
        let need = match value.as_str() {
            "max" => Need::Lifts,
            "0" => Need::Degradable,
            _ => Need::Required,
        };
        writes.push(Write::new("memory.swap.max", value, "memory.swap").need(need));
    }
    if let Some(limit) = limit {
        let need = if limit < 0 { Need::Lifts } else { Need::Required };
        writes.push(Write::new("memory.max", number_or_max(limit), "memory.limit").need(need));
    }
    if let Some(reservation) = given(memory.reservation) {
        let need = if reservation < 0 { Need::Lifts } else { Need::Required };
        writes.push(Write::new("memory.low", number_or_max(reservation), "memory.reservation").need(need));
    }
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    Ok(memory
        .check_before_update
        .unwrap_or(false)
        .then(|| MemoryCheck { limit: positive(limit), limit_and_swap: positive(given(memory.swap)) }))
}

/// The config's `swap` is memory and swap together; cgroup2 wants swap alone. -1 as limit: the sum can't be made, `swap` is it.
fn swap_beyond(limit: i64, swap: i64) -> Result<String> {
    match limit {
        ..0 => Ok(swap.to_string()),
        _ if swap < limit => Err(invalid(format!(
            "memory.swap {swap} is below memory.limit {limit}: it is the sum of memory and swap"
        ))),
        _ => Ok((swap - limit).to_string()),
    }
}

fn memory_of_v1(memory: &Memory, warnings: &mut Vec<String>) {
    let fields = [
        ("kernel", memory.kernel.is_some_and(|value| value > 0), "cgroup2 counts kernel memory as memory"),
        (
            "kernelTCP",
            memory.kernel_tcp.is_some_and(|value| value > 0),
            "cgroup2 counts socket buffers as memory",
        ),
        ("swappiness", memory.swappiness.is_some(), "cgroup2 has none per cgroup"),
        ("disableOOMKiller", memory.disable_oom_killer == Some(true), "cgroup2 can't disable it"),
        ("useHierarchy", memory.use_hierarchy == Some(false), "cgroup2 is always hierarchical"),
    ];
    for (field, _, why) in fields.iter().filter(|(_, given, _)| *given) {
        warnings.push(ignored(&format!("memory.{field}"), why));
    }
}

fn plan_cpu(cpu: &Cpu, purpose: Purpose<'_>, writes: &mut Vec<Write>) -> Result<()> {
    let realtime = [
        ("realtimeRuntime", cpu.realtime_runtime.is_some_and(|value| value != 0)),
        ("realtimePeriod", cpu.realtime_period.is_some_and(|value| value != 0)),
    ];
    if let Some((field, _)) = realtime.iter().find(|(_, given)| *given) {
        return Err(Error::unsupported(format!(
            "linux.resources.cpu.{field}: cgroup2 has no realtime limits"
        ))
        .cure("remove it, or set process.scheduler"));
    }
    // ORDER: idle before weight: the kernel refuses a weight while the cgroup is idle.
    match cpu.idle {
        None => {}
        Some(idle @ (0 | 1)) => {
            let need = if idle == 0 { Need::Lifts } else { Need::Degradable };
            writes.push(Write::new("cpu.idle", idle, "cpu.idle").need(need));
        }
        Some(other) => return Err(invalid(format!("cpu.idle {other} is neither 0 nor 1"))),
    }
    // An idle cgroup has no weight.
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0 && cpu.idle != Some(1)) {
        let weight = convert::cpu_weight(shares);
        writes.push(Write::new("cpu.weight", weight, "cpu.shares").need(Need::Degradable));
    }
    if let Some(burst) = cpu.burst {
        // The burst may not be above the quota: it goes first when both fall, and last when both rise.
        let need = if burst == 0 { Need::Lifts } else { Need::Degradable };
        writes.push(Write::new("cpu.max.burst", burst, "cpu.burst").need(need).or(OnError::RetryLast));
    }
    quota(cpu, purpose, writes)?;
    for (file, list, limit) in
        [("cpuset.cpus", &cpu.cpus, "cpu.cpus"), ("cpuset.mems", &cpu.mems, "cpu.mems")]
    {
        let Some(list) = list.as_deref().map(str::trim).filter(|list| !list.is_empty()) else { continue };
        super::unit::bitmask(list).ok_or_else(|| {
            invalid(format!("{limit} {list:?} is no list of numbers")).cure("such as 0-3,7")
        })?;
        writes.push(Write::new(file, list, limit));
    }
    Ok(())
}

fn quota(cpu: &Cpu, purpose: Purpose<'_>, writes: &mut Vec<Write>) -> Result<()> {
    // 0 is "not given", as for runc.
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period != 0);
    // KERNEL: kernel/sched/core.c, 1 ms to 1 s
    if let Some(period) = period.filter(|period| !(1_000..=1_000_000).contains(period)) {
        return Err(invalid(format!("cpu.period {period} is not between 1000 and 1000000 microseconds")));
    }
    if let Some(quota @ 1..1_000) = quota {
        return Err(invalid(format!("cpu.quota {quota} is below 1000 microseconds")));
    }
    if quota.is_none() && period.is_none() {
        return Ok(());
    }
    let in_force = match purpose {
        Purpose::Update(Some(resources)) => resources.cpu.as_ref(),
        _ => None,
    };
    let limit = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
    let quota =
        quota.or_else(|| in_force.and_then(|cpu| cpu.quota)).filter(|quota| *quota != 0).unwrap_or(-1);
    let period = period.or_else(|| in_force.and_then(|cpu| cpu.period)).filter(|period| *period != 0);
    let need = if quota < 0 { Need::Lifts } else { Need::Required };
    let value = format!("{} {}", number_or_max(quota), period.unwrap_or(100_000));
    writes.push(Write::new("cpu.max", value, limit).need(need));
    Ok(())
}

fn plan_io(io: &BlockIo, writes: &mut Vec<Write>, warnings: &mut Vec<String>) -> Result<()> {
    let weight_of = |weight: u16, field: &str| match weight {
        10..=1000 => Ok((weight, convert::io_weight(weight))),
        _ => Err(invalid(format!("blockIO.{field} {weight} is not between 10 and 1000"))),
    };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        let (bfq, io) = weight_of(weight, "weight")?;
        writes.push(
            Write::new("io.bfq.weight", bfq, "blockIO.weight")
                .need(Need::Degradable)
                .or(OnError::Instead("io.weight", io.to_string())),
        );
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            let (bfq, io) = weight_of(weight, "weightDevice.weight")?;
            let (major, minor) = (device.major, device.minor);
            writes.push(
                Write::new("io.bfq.weight", format!("{major}:{minor} {bfq}"), "blockIO.weightDevice")
                    .need(Need::Degradable)
                    .or(OnError::Instead("io.weight", format!("{major}:{minor} {io}"))),
            );
        }
    }
    let leaf = io.leaf_weight.is_some_and(|weight| weight != 0)
        || io.weight_device.iter().any(|device| device.leaf_weight.is_some_and(|weight| weight != 0));
    if leaf {
        warnings.push(ignored("blockIO.leafWeight", "cgroup2 has no processes beside its leaves"));
    }
    let throttles: [(&[ThrottleDevice], &str, &'static str); 4] = [
        (&io.throttle_read_bps_device, "rbps", "blockIO.throttleReadBpsDevice"),
        (&io.throttle_write_bps_device, "wbps", "blockIO.throttleWriteBpsDevice"),
        (&io.throttle_read_iops_device, "riops", "blockIO.throttleReadIOPSDevice"),
        (&io.throttle_write_iops_device, "wiops", "blockIO.throttleWriteIOPSDevice"),
    ];
    for (devices, key, limit) in throttles {
        for device in devices {
            // 0 lifts the limit, as on cgroup v1.
            let (rate, need) = match device.rate {
                0 => ("max".to_owned(), Need::Lifts),
                rate => (rate.to_string(), Need::Required),
            };
            let value = format!("{}:{} {key}={rate}", device.major, device.minor);
            writes.push(Write::new("io.max", value, limit).need(need));
        }
    }
    Ok(())
}

fn hugepages(resources: &Resources, writes: &mut Vec<Write>) -> Result<()> {
    for page in &resources.hugepage_limits {
        let size = &page.page_size;
        let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        if digits.parse::<u64>().is_err() || !matches!(&size[digits.len()..], "KB" | "MB" | "GB") {
            return Err(invalid(format!("hugepageLimits.pageSize {size:?} is no page size"))
                .cure("such as 2MB or 1GB"));
        }
        // The kubelet sends 0 for every size that it knows, asked or not.
        let need = if page.limit == 0 { Need::Degradable } else { Need::Required };
        let limit = "hugepageLimits";
        writes.push(Write::new(format!("hugetlb.{size}.max"), page.limit, limit).need(need));
        // KERNEL(5.7): reservations are counted too; without, only what is touched.
        writes.push(Write::new(format!("hugetlb.{size}.rsvd.max"), page.limit, limit).need(Need::Lifts));
    }
    Ok(())
}

/// Files of cgroup2 by name, last, so that they win. SPEC: config-linux.md#unified
fn unified(resources: &Resources, writes: &mut Vec<Write>) -> Result<()> {
    for (file, value) in resources.unified.iter().flatten() {
        let core = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "cgroup.type"];
        if file.contains(['/', '\0']) || !file.contains('.') || file.starts_with('.') || file.ends_with('.') {
            return Err(
                invalid(format!("unified: {file:?} is no file of a cgroup")).cure("such as memory.high")
            );
        }
        if core.contains(&file.as_str()) {
            return Err(invalid(format!("unified: {file:?} is the runtime's")));
        }
        let weights =
            ["cpu.weight", "cpu.weight.nice", "cpu.idle", "io.weight", "io.bfq.weight", "memory.oom.group"];
        for line in value.lines() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let need = match line {
                _ if weights.contains(&file.as_str()) => Need::Degradable,
                "max" => Need::Lifts,
                _ => Need::Required,
            };
            let mut write = Write::new(file.clone(), line, "").need(need);
            write.limit = format!("unified.{file}").into();
            writes.push(write);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
