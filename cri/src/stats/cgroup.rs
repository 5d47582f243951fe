//! Reading a cgroup's files: kept open, read again from their beginning. What a host's controllers don't offer is absent.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The files that are read, in the order of their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Name {
    CpuStat,
    CpuPressure,
    MemoryCurrent,
    MemoryStat,
    MemoryMax,
    MemoryLow,
    MemoryPeak,
    MemoryEvents,
    MemoryPressure,
    SwapCurrent,
    SwapMax,
    IoStat,
    IoPressure,
    PidsCurrent,
    PidsMax,
}

const NAMES: [&str; 15] = [
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.stat",
    "memory.max",
    "memory.low",
    "memory.peak",
    "memory.events",
    "memory.pressure",
    "memory.swap.current",
    "memory.swap.max",
    "io.stat",
    "io.pressure",
    "pids.current",
    "pids.max",
];

/// Descriptors that all cgroups together have.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many of them they may keep; what is beyond is opened for each reading.
fn kept() -> usize {
    static KEPT: OnceLock<usize> = OnceLock::new();
    *KEPT.get_or_init(crate::descriptors::share)
}

/// One cgroup.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    files: [Slot; NAMES.len()],
}

/// What is read of a file: more than any of these has.
const LENGTH: usize = 8192;

thread_local! {
    /// What a file's text is read into: one for each thread, not one for each of a thousand cgroups.
    static BUFFER: RefCell<[u8; LENGTH]> = const { RefCell::new([0; LENGTH]) };
}

#[derive(Debug)]
enum Slot {
    Unknown,
    Absent,
    Open(File),
}

/// What a cgroup's processes waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some of them, and all of them.
    pub some: Waiting,
    /// See `some`.
    pub full: Waiting,
}

/// Shares of time, in percent, and the sum in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Waiting {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total_us: u64,
}

/// The traffic with one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Device {
    /// `MAJOR:MINOR`
    pub number: String,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

impl Cgroup {
    /// Opens nothing yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, files: [const { Slot::Unknown }; NAMES.len()] }
    }

    /// What `read` makes of a file's text; none where there is no such file, or no such cgroup any more.
    pub fn text<T>(&mut self, name: Name, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let slot = &mut self.files[name as usize];
        if matches!(slot, Slot::Unknown) {
            *slot = match File::open(self.folder.join(NAMES[name as usize])) {
                Ok(file) => {
                    OPEN.fetch_add(1, Ordering::Relaxed);
                    Slot::Open(file)
                }
                Err(_) => Slot::Absent,
            };
        }
        let Slot::Open(file) = slot else { return None };
        let result = BUFFER.with_borrow_mut(|buffer| {
            let length = file.read_at(buffer, 0).ok()?;
            read(std::str::from_utf8(&buffer[..length]).ok()?)
        });
        if OPEN.load(Ordering::Relaxed) > kept() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            *slot = Slot::Unknown;
        }
        result
    }

    /// A file that is one number; `max` and absence are none.
    pub fn number(&mut self, name: Name) -> Option<u64> {
        self.text(name, |text| text.trim().parse().ok())
    }

    /// Numbers of a file whose lines are `key value`; keys that are not there are none.
    pub fn values<const N: usize>(&mut self, name: Name, keys: [&str; N]) -> Option<[Option<u64>; N]> {
        self.text(name, |text| {
            let mut found = [None; N];
            for line in text.lines() {
                let Some((key, value)) = line.split_once(' ') else { continue };
                if let Some(place) = keys.iter().position(|wanted| *wanted == key) {
                    found[place] = value.trim().parse().ok();
                }
            }
            Some(found)
        })
    }

    /// What its processes waited for.
    pub fn pressure(&mut self, name: Name) -> Option<Pressure> {
        self.text(name, |text| (!text.is_empty()).then(|| parse_pressure(text)))
    }

    /// The traffic with block devices.
    pub fn devices(&mut self) -> Option<Vec<Device>> {
        self.text(Name::IoStat, |text| Some(parse_devices(text)))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let open = self.files.iter().filter(|slot| matches!(slot, Slot::Open(_))).count();
        OPEN.fetch_sub(open, Ordering::Relaxed);
    }
}

fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let waiting = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => waiting.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => waiting.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => waiting.avg300 = value.parse().unwrap_or(0.0),
                "total" => waiting.total_us = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

fn parse_devices(text: &str) -> Vec<Device> {
    let device = |line: &str| {
        let mut words = line.split_whitespace();
        let mut device = Device { number: words.next()?.to_owned(), ..Device::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.write_bytes = value,
                "rios" => device.reads = value,
                "wios" => device.writes = value,
                _ => {}
            }
        }
        Some(device)
    };
    text.lines().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(test: &str, files: &[(&str, &str)]) -> Cgroup {
        let folder = std::env::temp_dir().join(format!("rt-cri-stats-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        Cgroup::new(folder)
    }

    #[test]
    fn what_is_there_is_read_again_and_what_is_not_is_absent() {
        let mut cgroup = cgroup(
            "values",
            &[("cpu.stat", "usage_usec 5\nuser_usec 3\n"), ("memory.max", "max\n"), ("pids.current", "7\n")],
        );
        assert_eq!(cgroup.values(Name::CpuStat, ["user_usec", "nr_periods"]), Some([Some(3), None]));
        assert_eq!((cgroup.number(Name::MemoryMax), cgroup.number(Name::PidsCurrent)), (None, Some(7)));
        assert_eq!(cgroup.number(Name::MemoryCurrent), None);
        std::fs::write(cgroup.folder.join("pids.current"), "12\n").unwrap();
        assert_eq!(cgroup.number(Name::PidsCurrent), Some(12));
        std::fs::remove_dir_all(&cgroup.folder).unwrap();
    }

    #[test]
    fn pressure_and_devices_are_parsed() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=45\n";
        let pressure = parse_pressure(text);
        assert_eq!((pressure.some.avg10, pressure.some.total_us, pressure.full.total_us), (1.5, 123, 45));
        let devices = parse_devices("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n");
        let expected =
            Device { number: "254:0".to_owned(), read_bytes: 4096, write_bytes: 8192, reads: 1, writes: 2 };
        assert_eq!(devices, [expected]);
    }
}
