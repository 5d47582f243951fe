//! A cgroup's files as containerd's Metrics. Files that a cgroup lacks, for want of a controller, leave their part out.

use std::path::{Path, PathBuf};

use crate::api::cgroups as api;
use crate::error::{Context, Result};

/// Reads all of a cgroup's metrics.
///
/// # Errors
/// The cgroup is gone.
pub(super) fn read(cgroup: &Path) -> Result<api::Metrics> {
    std::fs::metadata(cgroup).what(|| format!("read the metrics of {}", cgroup.display()))?;
    let file = |name: &str| std::fs::read_to_string(cgroup.join(name)).ok();
    let number = |name: &str| file(name).map(|text| limit(text.trim()));
    Ok(api::Metrics {
        pids: number("pids.current").map(|current| api::PidsStat {
            current,
            // 0 is "no limit" to those who read it.
            limit: file("pids.max").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        }),
        cpu: file("cpu.stat")
            .map(|text| api::CpuStat { psi: file("cpu.pressure").map(|p| pressure(&p)), ..cpu(&text) }),
        memory: file("memory.stat").map(|text| api::MemoryStat {
            usage: number("memory.current").unwrap_or(0),
            usage_limit: number("memory.max").unwrap_or(u64::MAX),
            max_usage: number("memory.peak").unwrap_or(0),
            swap_usage: number("memory.swap.current").unwrap_or(0),
            swap_limit: number("memory.swap.max").unwrap_or(0),
            swap_max_usage: number("memory.swap.peak").unwrap_or(0),
            psi: file("memory.pressure").map(|p| pressure(&p)),
            ..memory(&text)
        }),
        rdma: file("rdma.current").map(|current| api::RdmaStat {
            current: rdma(&current),
            limit: file("rdma.max").map(|max| rdma(&max)).unwrap_or_default(),
        }),
        io: file("io.stat")
            .map(|text| api::IoStat { usage: io(&text), psi: file("io.pressure").map(|p| pressure(&p)) }),
        hugetlb: hugetlb(cgroup),
        memory_events: file("memory.events").map(|text| events(&text)),
        // The pod's network is not a container's; who wants its counters asks its network namespace.
        network: Vec::new(),
    })
}

/// Where the cgroup2 file system that holds `path` is mounted: the directory above which there is no cgroup.
pub(super) fn cgroup_mount(path: &Path) -> PathBuf {
    let is_cgroup = |dir: &Path| dir.join("cgroup.controllers").exists();
    let mut mount = path.to_owned();
    while let Some(above) = mount.parent().filter(|above| is_cgroup(above)) {
        mount = above.to_owned();
    }
    // An ended container's cgroup may be gone: then its path is looked at from where there still are cgroups.
    if mount == path && !is_cgroup(path) {
        return path
            .ancestors()
            .find(|dir| is_cgroup(dir))
            .map_or_else(|| "/sys/fs/cgroup".into(), cgroup_mount);
    }
    mount
}

/// A number, or `max`.
fn limit(text: &str) -> u64 {
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

/// The value of `key` in lines of `key value`.
fn value(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key).map_or(0, |(_, value)| limit(value.trim()))
}

fn cpu(text: &str) -> api::CpuStat {
    let v = |key: &str| value(text, key);
    api::CpuStat {
        usage_usec: v("usage_usec"),
        user_usec: v("user_usec"),
        system_usec: v("system_usec"),
        nr_periods: v("nr_periods"),
        nr_throttled: v("nr_throttled"),
        throttled_usec: v("throttled_usec"),
        nr_bursts: v("nr_bursts"),
        burst_usec: v("burst_usec"),
        psi: None,
    }
}

fn memory(text: &str) -> api::MemoryStat {
    let v = |key: &str| value(text, key);
    // Some counters are split by kind of page since 5.9.
    let both = |key: &str| v(key) + v(&format!("{key}_anon")) + v(&format!("{key}_file"));
    api::MemoryStat {
        anon: v("anon"),
        file: v("file"),
        kernel_stack: v("kernel_stack"),
        slab: v("slab"),
        sock: v("sock"),
        shmem: v("shmem"),
        file_mapped: v("file_mapped"),
        file_dirty: v("file_dirty"),
        file_writeback: v("file_writeback"),
        anon_thp: v("anon_thp"),
        inactive_anon: v("inactive_anon"),
        active_anon: v("active_anon"),
        inactive_file: v("inactive_file"),
        active_file: v("active_file"),
        unevictable: v("unevictable"),
        slab_reclaimable: v("slab_reclaimable"),
        slab_unreclaimable: v("slab_unreclaimable"),
        pgfault: v("pgfault"),
        pgmajfault: v("pgmajfault"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: v("workingset_nodereclaim"),
        pgrefill: v("pgrefill"),
        pgscan: v("pgscan"),
        pgsteal: v("pgsteal"),
        pgactivate: v("pgactivate"),
        pgdeactivate: v("pgdeactivate"),
        pglazyfree: v("pglazyfree"),
        pglazyfreed: v("pglazyfreed"),
        thp_fault_alloc: v("thp_fault_alloc"),
        thp_collapse_alloc: v("thp_collapse_alloc"),
        ..api::MemoryStat::default()
    }
}

fn events(text: &str) -> api::MemoryEvents {
    let v = |key: &str| value(text, key);
    api::MemoryEvents {
        low: v("low"),
        high: v("high"),
        max: v("max"),
        oom: v("oom"),
        oom_kill: v("oom_kill"),
        oom_group_kill: v("oom_group_kill"),
    }
}

/// Lines of `MAJOR:MINOR rbytes=… wbytes=… rios=… wios=… …`.
fn io(text: &str) -> Vec<api::IoEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let v = |key: &str| {
            let mut pairs = rest.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).map_or(0, |(_, value)| limit(value))
        };
        Some(api::IoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            rbytes: v("rbytes"),
            wbytes: v("wbytes"),
            rios: v("rios"),
            wios: v("wios"),
        })
    };
    text.lines().filter_map(entry).collect()
}

/// Lines of `DEVICE hca_handle=… hca_object=…`.
fn rdma(text: &str) -> Vec<api::RdmaEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let device = words.next()?.to_owned();
        let v = |word: Option<&str>| {
            let value = word.and_then(|word| word.split_once('=')).map_or(0, |(_, value)| limit(value));
            u32::try_from(value).unwrap_or(u32::MAX)
        };
        Some(api::RdmaEntry { device, hca_handles: v(words.next()), hca_objects: v(words.next()) })
    };
    text.lines().filter_map(entry).collect()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and likewise `full`.
fn pressure(text: &str) -> api::PsiStats {
    let kind = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        let v = |key: &str| {
            let mut pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        let share = |key| v(key).and_then(|value| value.parse().ok()).unwrap_or(0.0);
        Some(api::PsiData {
            avg10: share("avg10"),
            avg60: share("avg60"),
            avg300: share("avg300"),
            total: v("total").map_or(0, limit),
        })
    };
    api::PsiStats { some: kind("some"), full: kind("full") }
}

fn hugetlb(cgroup: &Path) -> Vec<api::HugeTlbStat> {
    let entries = std::fs::read_dir(cgroup)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut sizes: Vec<String> = entries
        .filter_map(|name| Some(name.strip_prefix("hugetlb.")?.strip_suffix(".current")?.to_owned()))
        .filter(|size| !size.ends_with(".rsvd"))
        .collect();
    sizes.sort();
    let stat = |pagesize: String| {
        let file = |what: &str| {
            std::fs::read_to_string(cgroup.join(format!("hugetlb.{pagesize}.{what}"))).unwrap_or_default()
        };
        api::HugeTlbStat {
            current: limit(file("current").trim()),
            max: limit(file("max").trim()),
            failcnt: value(&file("events"), "max"),
            pagesize: pagesize.clone(),
        }
    };
    sizes.into_iter().map(stat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_formats_are_read() {
        assert_eq!(cpu("usage_usec 12\nuser_usec 5\nsystem_usec 7\n").usage_usec, 12);
        let memory = memory("anon 4096\nworkingset_refault_anon 1\nworkingset_refault_file 2\n");
        assert_eq!((memory.anon, memory.workingset_refault), (4096, 3));
        assert_eq!(events("low 0\noom_kill 2\noom_group_kill 1\n").oom_kill, 2);
        let io = io("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\nbroken\n");
        assert_eq!((io.len(), io[0].major, io[0].wbytes), (1, 8, 20));
        let rdma = rdma("mlx4_0 hca_handle=2 hca_object=max\n");
        assert_eq!((rdma[0].hca_handles, rdma[0].hca_objects), (2, u32::MAX));
        let psi = pressure(
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
        );
        assert_eq!(psi.some.map(|some| (some.avg10, some.total)), Some((1.5, 77)));
        assert_eq!(psi.full.map(|full| full.total), Some(5));
    }
}
