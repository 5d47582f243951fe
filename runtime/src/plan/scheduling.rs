//! CPU scheduling and I/O priority of a process → the numbers of sched_setattr(2) and ioprio_set(2).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec;

/// Where and when a process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Scheduling {
    /// CPU scheduling.
    pub cpu: Option<CpuPolicy>,
    /// I/O class (1 real-time, 2 best effort, 3 idle) and level.
    pub io: Option<(u16, u16)>,
    /// CPUs while entering the container (exec).
    pub initial_cpus: Option<Vec<u32>>,
    /// CPUs of the process in the container (exec).
    pub final_cpus: Option<Vec<u32>>,
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CpuPolicy {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// KERNEL: include/uapi/linux/sched.h
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
/// KERNEL: include/uapi/linux/sched.h
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x1),
    ("SCHED_FLAG_RECLAIM", 0x2),
    ("SCHED_FLAG_DL_OVERRUN", 0x4),
    ("SCHED_FLAG_KEEP_POLICY", 0x8),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
const IO_CLASSES: [(&str, u16); 3] =
    [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// SPEC: config.md#linux-process
pub fn plan(process: &spec::Process) -> Result<Scheduling> {
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    Ok(Scheduling {
        cpu: process.scheduler.as_ref().map(cpu).transpose()?,
        io: process.io_priority.as_ref().map(io).transpose()?,
        initial_cpus: cpus("process.execCPUAffinity.initial", affinity.initial.as_deref())?,
        final_cpus: cpus("process.execCPUAffinity.final", affinity.last.as_deref())?,
    })
}

fn named<T: Copy>(place: &str, table: &[(&str, T)], name: &str) -> Result<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| *known).collect();
        Error::invalid(format!("{place}: unknown value {name:?}"))
            .cure(format!("it is one of {}", known.join(", ")))
    })
}

fn cpu(scheduler: &spec::Scheduler) -> Result<CpuPolicy> {
    let policy = named("process.scheduler.policy", &POLICIES, &scheduler.policy)?;
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= named("process.scheduler.flags", &FLAGS, flag)?;
    }
    if !(-20..=19).contains(&scheduler.nice) {
        return Err(Error::invalid(format!("process.scheduler.nice {} is not in -20..=19", scheduler.nice)));
    }
    let realtime = matches!(policy, 1 | 2);
    let priority = u32::try_from(scheduler.priority)
        .ok()
        .filter(|&priority| if realtime { (1..=99).contains(&priority) } else { priority == 0 })
        .ok_or_else(|| {
            Error::invalid(format!(
                "process.scheduler.priority {} does not fit {}",
                scheduler.priority, scheduler.policy
            ))
            .cure("SCHED_FIFO and SCHED_RR take 1 to 99, the others 0")
        })?;
    let times = scheduler.runtime != 0 || scheduler.deadline != 0 || scheduler.period != 0;
    if times != (policy == 6) {
        return Err(Error::invalid(format!(
            "process.scheduler: runtime, deadline and period go with SCHED_DEADLINE only, and it needs them (policy {})",
            scheduler.policy
        )));
    }
    Ok(CpuPolicy {
        policy,
        flags,
        nice: scheduler.nice,
        priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
}

fn io(priority: &spec::IoPriority) -> Result<(u16, u16)> {
    let class = named("process.ioPriority.class", &IO_CLASSES, &priority.class)?;
    match u16::try_from(priority.priority) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => {
            Err(Error::invalid(format!("process.ioPriority.priority {} is not in 0..=7", priority.priority)))
        }
    }
}

/// `0-3,7` → the numbers, for sched_setaffinity(2).
fn cpus(place: &str, list: Option<&str>) -> Result<Option<Vec<u32>>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(None) };
    numbers(list).map(Some).ok_or_else(|| {
        Error::invalid(format!("{place}: {list:?} is not a list of CPUs")).cure("write it as in \"0-3,7\"")
    })
}

/// A list such as `0-3,7`; none of the numbers is above 1023, the most that a kernel's cpu_set_t has room for.
pub fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last > 1023 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(numbers("0-2,7"), Some(vec![0, 1, 2, 7]));
        for bad in ["", "3-1", "a", "0-99999", "1,,2"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_specs_flag_names_are_taken() {
        let scheduler = spec::Scheduler {
            policy: "SCHED_BATCH".into(),
            flags: vec!["SCHED_FLAG_RESET_ON_FORK".to_owned()].into(),
            nice: 5,
            ..Default::default()
        };
        assert_eq!(
            cpu(&scheduler).unwrap(),
            CpuPolicy { policy: 3, flags: 1, nice: 5, ..Default::default() }
        );
    }
}
