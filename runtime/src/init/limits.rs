//! Resource limits, scheduling, personality and memory policy of the process.

use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::Task;
use crate::plan::process::rlimit_name;
use crate::sys::process;

/// Sets all of them.
pub fn set(task: &Task) -> Result<()> {
    for &(number, soft, hard) in &task.process.rlimits {
        rlimit(number, soft, hard)?;
    }
    let scheduling = &task.process.scheduling;
    // Not the caller's: a runtime that is pinned itself must not pin its containers. The cgroup's cpuset still bounds it.
    match &scheduling.final_cpus {
        Some(cpus) => affinity(cpus)?,
        None => affinity(&Vec::from_iter(0..nix::sched::CpuSet::count() as u32))?,
    }
    if let Some(cpu) = scheduling.cpu {
        process::set_scheduler(process::SchedAttr {
            policy: cpu.policy,
            flags: cpu.flags,
            nice: cpu.nice,
            priority: cpu.priority,
            runtime: cpu.runtime,
            deadline: cpu.deadline,
            period: cpu.period,
            ..Default::default()
        })
        .what(|| "set the CPU scheduler")?;
    }
    if let Some((class, level)) = scheduling.io {
        process::set_io_priority(class, level).what(|| "set the I/O priority")?;
    }
    if let Some(policy) = &task.memory_policy {
        process::set_memory_policy(policy.mode, &policy.nodes).what(|| "set the memory policy")?;
    }
    if let Some(domain) = task.personality {
        process::set_personality(domain).what(|| format!("set personality {domain:#x}"))?;
    }
    Ok(())
}

fn rlimit(number: u32, soft: u64, hard: u64) -> Result<()> {
    let what = || format!("set {} to {soft}:{hard}", rlimit_name(number));
    process::set_rlimit(number, soft, hard).map_err(|errno| match errno {
        Errno::EPERM => Error::new(Kind::Denied, what()).cure(
            "the hard limit is above the runtime's own, and raising it needs CAP_SYS_RESOURCE, which this process lacks",
        ),
        _ => Error::os(errno as i32, what()),
    })
}

/// Pins this process to CPUs.
pub fn affinity(cpus: &[u32]) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize).what(|| format!("name CPU {cpu}"))?;
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
        .what(|| format!("run on CPUs {cpus:?}"))
}
