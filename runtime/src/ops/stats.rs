//! What a container uses: the files of its cgroup as the JSON of `runc events`. Pure: files come as text, by name.
//!
//! What cgroup v2 doesn't have (per-CPU times, kernel memory) is left out.

use std::collections::BTreeMap;

use serde::Serialize;

/// All of it.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Hugetlb>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

/// Nanoseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    /// Nanoseconds.
    throttled_time: u64,
}

/// Bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Memory {
    cache: u64,
    usage: Amount,
    /// Memory and swap together, as cgroup v1 counts.
    swap: Amount,
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Amount {
    limit: u64,
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Pids {
    current: u64,
    /// Left out: no limit.
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    io_service_bytes_recursive: Vec<BlkioEntry>,
    io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct BlkioEntry {
    major: u64,
    minor: u64,
    op: &'static str,
    value: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Hugetlb {
    usage: u64,
    failcnt: u64,
}

/// Pressure stall information: shares of time, and microseconds in all.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Pressure {
    some: Stall,
    full: Stall,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Stall {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Reads all that is there; `file` gives a file's text, `None` if the kernel or the cgroup has no such file.
/// `hugepage_sizes` are those of `hugetlb.SIZE.current`.
pub fn read(file: impl Fn(&str) -> Option<String>, hugepage_sizes: &[String]) -> Stats {
    let pressure = |name: &str| file(name).map(|text| parse_pressure(&text));
    let (bytes, operations) = io(&file("io.stat").unwrap_or_default());
    Stats {
        cpu: Cpu { psi: pressure("cpu.pressure"), ..cpu(&file("cpu.stat").unwrap_or_default()) },
        memory: Memory { psi: pressure("memory.pressure"), ..memory(&file) },
        pids: Pids { current: number(file("pids.current")), limit: limit(file("pids.max")).unwrap_or(0) },
        blkio: Blkio {
            io_service_bytes_recursive: bytes,
            io_serviced_recursive: operations,
            psi: pressure("io.pressure"),
        },
        hugetlb: hugepage_sizes.iter().map(|size| (size.clone(), hugetlb(&file, size))).collect(),
    }
}

fn cpu(text: &str) -> Cpu {
    let stat = flat(text);
    let nanos = |name: &str| value(&stat, name).saturating_mul(1000);
    Cpu {
        usage: CpuUsage {
            total: nanos("usage_usec"),
            kernel: nanos("system_usec"),
            user: nanos("user_usec"),
        },
        throttling: Throttling {
            periods: value(&stat, "nr_periods"),
            throttled_periods: value(&stat, "nr_throttled"),
            throttled_time: nanos("throttled_usec"),
        },
        psi: None,
    }
}

fn memory(file: &impl Fn(&str) -> Option<String>) -> Memory {
    let raw = flat(&file("memory.stat").unwrap_or_default());
    let failures = |name: &str| value(&flat(&file(name).unwrap_or_default()), "max");
    let usage = Amount {
        limit: limit(file("memory.max")).unwrap_or(u64::MAX),
        usage: number(file("memory.current")),
        max: number(file("memory.peak")),
        failcnt: failures("memory.events"),
    };
    let swap = Amount {
        limit: limit(file("memory.swap.max")).map_or(u64::MAX, |swap| swap.saturating_add(usage.limit)),
        usage: number(file("memory.swap.current")).saturating_add(usage.usage),
        max: 0,
        failcnt: failures("memory.swap.events"),
    };
    Memory { cache: value(&raw, "file"), usage, swap, raw, psi: None }
}

fn hugetlb(file: &impl Fn(&str) -> Option<String>, size: &str) -> Hugetlb {
    let events = flat(&file(&format!("hugetlb.{size}.events")).unwrap_or_default());
    Hugetlb { usage: number(file(&format!("hugetlb.{size}.current"))), failcnt: value(&events, "max") }
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`: bytes, and operations.
fn io(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op, value });
        }
    }
    (bytes, operations)
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let stall = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().unwrap_or_default(),
                "avg60" => stall.avg60 = value.parse().unwrap_or_default(),
                "avg300" => stall.avg300 = value.parse().unwrap_or_default(),
                "total" => stall.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }
    pressure
}

/// Lines such as `name number`.
pub fn flat(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

/// 0 if it isn't there.
pub fn value(table: &BTreeMap<String, u64>, name: &str) -> u64 {
    table.get(name).copied().unwrap_or(0)
}

fn number(text: Option<String>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// `None`: `max`, or not there.
fn limit(text: Option<String>) -> Option<u64> {
    text.and_then(|text| text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_files_become_runcs_json() {
        let file = |name: &str| {
            let text = match name {
                "cpu.stat" => {
                    "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n"
                }
                "cpu.pressure" => {
                    "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"
                }
                "memory.stat" => "anon 5\nfile 6\n",
                "memory.current" => "100\n",
                "memory.max" => "1000\n",
                "memory.peak" => "150\n",
                "memory.events" => "low 0\nmax 8\noom 1\n",
                "memory.swap.current" => "11\n",
                "memory.swap.max" => "max\n",
                "pids.current" => "3\n",
                "pids.max" => "max\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\nbroken\n",
                "hugetlb.2MB.current" => "2097152\n",
                "hugetlb.2MB.events" => "max 5\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let entry = |op: &str, value: u64| json!({"major": 8, "minor": 0, "op": op, "value": value});
        let stats = serde_json::to_value(read(file, &["2MB".to_owned()])).unwrap();
        let expected = json!({
            "cpu": {
                "usage": {"total": 30_000, "kernel": 10_000, "user": 20_000},
                "throttling": {"periods": 4, "throttledPeriods": 2, "throttledTime": 7000},
                "psi": {
                    "some": {"avg10": 1.5, "avg60": 0.25, "avg300": 0.0, "total": 99},
                    "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 3},
                },
            },
            "memory": {
                "cache": 6,
                "usage": {"limit": 1000, "usage": 100, "max": 150, "failcnt": 8},
                "swap": {"limit": u64::MAX, "usage": 111, "failcnt": 0},
                "raw": {"anon": 5, "file": 6},
            },
            "pids": {"current": 3},
            "blkio": {
                "ioServiceBytesRecursive": [entry("Read", 1), entry("Write", 2), entry("Discard", 5)],
                "ioServicedRecursive": [entry("Read", 3), entry("Write", 4), entry("Discard", 6)],
            },
            "hugetlb": {"2MB": {"usage": 2_097_152, "failcnt": 5}},
        });
        assert_eq!(stats, expected);
    }

    #[test]
    fn nothing_is_no_error() {
        let stats = read(|_| None, &[]);
        assert_eq!(stats.memory.usage.limit, u64::MAX);
        assert_eq!(stats.pids, Pids::default());
    }
}
