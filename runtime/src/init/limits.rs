//! Resource limits, scheduling, personality and memory policy of the process.

use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::Task;
use crate::plan::process::{NPROC, rlimit_name};
use crate::sys::process;

/// Sets all of them. `in_between`: another process, cloned by this one, goes on with them: [`settle`] has the rest there.
pub fn set(task: &Task, in_between: bool) -> Result<()> {
    for &(number, soft, hard) in &task.process.rlimits {
        // KERNEL: this process counts, too, as long as it is there. Who may not raise a hard limit does without.
        let more = in_between && number == NPROC;
        if !(more && rlimit(number, soft.saturating_add(1), hard.saturating_add(1)).is_ok()) {
            rlimit(number, soft, hard)?;
        }
    }
    let scheduling = &task.process.scheduling;
    // Not the caller's: a runtime that is pinned itself must not pin its containers. The cgroup's cpuset still bounds it.
    match &scheduling.final_cpus {
        Some(cpus) => affinity(cpus)?,
        None => affinity(&Vec::from_iter(0..nix::sched::CpuSet::count() as u32))?,
    }
    if !in_between {
        scheduler(task, 0)?;
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

/// In the process that was cloned: needs no rights.
pub fn settle(task: &Task) -> Result<()> {
    let processes = task.process.rlimits.iter().find(|(number, ..)| *number == NPROC);
    processes.map_or(Ok(()), |&(number, soft, hard)| rlimit(number, soft, hard))
}

/// How a process gets its CPU time; 0 is this one. KERNEL: some policies forbid to clone, or are not handed on to who is cloned.
pub fn scheduler(task: &Task, pid: i32) -> Result<()> {
    let Some(cpu) = task.process.scheduling.cpu else { return Ok(()) };
    let attr = process::SchedAttr {
        policy: cpu.policy,
        flags: cpu.flags,
        nice: cpu.nice,
        priority: cpu.priority,
        runtime: cpu.runtime,
        deadline: cpu.deadline,
        period: cpu.period,
        ..Default::default()
    };
    process::set_scheduler(pid, attr).what(|| "set the CPU scheduler")
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
