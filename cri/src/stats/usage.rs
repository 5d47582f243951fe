//! What one cgroup uses, as CRI's messages say it.

use super::cgroup::{Cgroup, Name, Pressure, Waiting};
use super::now;
use crate::api;

/// Samples nearer than this give no rate.
const APART: i64 = 500_000_000;

/// A cgroup that is asked again and again.
#[derive(Debug)]
pub struct Group {
    /// Its files.
    pub files: Cgroup,
    /// When and how much CPU it had used, for the rate.
    before: Sample,
    rate: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: i64,
    used: u64,
}

/// What CRI wants to know of a container and of a pod.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Usage {
    pub cpu: Option<api::CpuUsage>,
    pub memory: Option<api::MemoryUsage>,
    pub swap: Option<api::SwapUsage>,
    pub io: Option<api::IoUsage>,
}

impl Group {
    /// `since`: when it began with nothing used, nanoseconds since the epoch.
    pub fn new(files: Cgroup, since: i64) -> Self {
        Self { files, before: Sample { at: since, used: 0 }, rate: None }
    }

    /// What it uses now.
    pub fn usage(&mut self) -> Usage {
        Usage { cpu: self.cpu(), memory: self.memory(), swap: self.swap(), io: self.io() }
    }

    fn cpu(&mut self) -> Option<api::CpuUsage> {
        let [used] = self.files.values(Name::CpuStat, ["usage_usec"])?;
        let sample = Sample { at: now(), used: used? * 1000 };
        let apart = sample.at - self.before.at;
        if apart >= APART {
            let used = sample.used.saturating_sub(self.before.used);
            self.rate = Some((u128::from(used) * 1_000_000_000 / apart as u128) as u64);
            self.before = sample;
        }
        Some(api::CpuUsage {
            timestamp: sample.at,
            usage_core_nano_seconds: value(Some(sample.used)),
            usage_nano_cores: value(self.rate),
            psi: self.files.pressure(Name::CpuPressure).map(psi),
        })
    }

    fn memory(&mut self) -> Option<api::MemoryUsage> {
        let usage = self.files.number(Name::MemoryCurrent)?;
        let keys = ["inactive_file", "anon", "pgfault", "pgmajfault"];
        let [inactive, anon, faults, major] = self.files.values(Name::MemoryStat, keys).unwrap_or_default();
        let working_set = usage.saturating_sub(inactive.unwrap_or(0));
        let limit = self.files.number(Name::MemoryMax);
        Some(api::MemoryUsage {
            timestamp: now(),
            working_set_bytes: value(Some(working_set)),
            available_bytes: value(limit.map(|limit| limit.saturating_sub(working_set))),
            usage_bytes: value(Some(usage)),
            rss_bytes: value(anon),
            page_faults: value(faults),
            major_page_faults: value(major),
            psi: self.files.pressure(Name::MemoryPressure).map(psi),
        })
    }

    fn swap(&mut self) -> Option<api::SwapUsage> {
        let usage = self.files.number(Name::SwapCurrent)?;
        let limit = self.files.number(Name::SwapMax);
        Some(api::SwapUsage {
            timestamp: now(),
            swap_available_bytes: value(limit.map(|limit| limit.saturating_sub(usage))),
            swap_usage_bytes: value(Some(usage)),
        })
    }

    fn io(&mut self) -> Option<api::IoUsage> {
        let psi = psi(self.files.pressure(Name::IoPressure)?);
        Some(api::IoUsage { timestamp: now(), psi: Some(psi) })
    }
}

/// A number that may be absent.
pub fn value(number: Option<u64>) -> Option<api::UInt64Value> {
    number.map(|value| api::UInt64Value { value })
}

fn psi(pressure: Pressure) -> api::PsiStats {
    let side = |waiting: Waiting| api::PsiData {
        // The kernel counts microseconds, CRI nanoseconds.
        total: waiting.total_us * 1000,
        avg10: waiting.avg10,
        avg60: waiting.avg60,
        avg300: waiting.avg300,
    };
    api::PsiStats { full: Some(side(pressure.full)), some: Some(side(pressure.some)) }
}
