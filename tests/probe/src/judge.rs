//! What of the host a process shows to others: its root, directories, executable, mappings, descriptors, namespaces, environment.
//!
//! Judged by identity (device and inode, number of a namespace), never by name. It stops nobody and prints nothing.

use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A file: device and inode.
pub type File = (u64, u64);

/// What is the host's and what is the container's.
#[derive(Default)]
pub struct Judge {
    /// A file of the host, by its path there.
    marker: String,
    /// Devices that are mounted on the host.
    devices: BTreeSet<u64>,
    /// Files on these that the container may see: its own.
    own: BTreeSet<File>,
    /// The runtime's executable on the host.
    runtime: Option<File>,
    /// Namespaces of the host, as `/proc/PID/ns` shows them.
    namespaces: BTreeSet<String>,
    /// A text that is in the environment of whoever calls the runtime.
    secret: String,
    /// The source of a mount that only the host has.
    mount: String,
    /// Descriptors that were asked for.
    asked: BTreeSet<i32>,
    /// Capabilities that a process of the container may have in force.
    capabilities: Option<u64>,
    /// Lines of `/proc/PID/status` that each process of the container must have.
    status: Vec<String>,
    /// The ids of the container's processes.
    uid_map: Option<Vec<u8>>,
}

/// What was seen: what kind of thing, and which.
pub type Found = BTreeSet<(&'static str, String)>;

impl Judge {
    /// From `marker=PATH dev=N own=DEV:INO rt=DEV:INO ns=KIND:[INO] secret=TEXT mount=NAME fd=N caps=HEX status=NAME:VALUE`, most of them
    /// more than once.
    pub fn new(words: &[String]) -> Result<Self, String> {
        let mut judge = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word}: KEY=VALUE is wanted"))?;
            match key {
                "marker" => value.clone_into(&mut judge.marker),
                "dev" => drop(judge.devices.insert(number(value)?)),
                "own" => drop(judge.own.insert(file(value)?)),
                "rt" => judge.runtime = Some(file(value)?),
                "ns" => drop(judge.namespaces.insert(value.to_owned())),
                "secret" => value.clone_into(&mut judge.secret),
                "mount" => value.clone_into(&mut judge.mount),
                "fd" => drop(judge.asked.insert(number(value)?)),
                "status" => judge.status.push(value.to_owned()),
                "caps" => {
                    let caps = u64::from_str_radix(value, 16);
                    judge.capabilities = Some(caps.map_err(|_| format!("{value} is not a mask"))?);
                }
                _ => return Err(format!("{word}: no such key")),
            }
        }
        judge.uid_map = fs::read("/proc/self/uid_map").ok();
        // What this process has from its own parents is no news.
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
            if let Ok(own) = fs::read_link(format!("/proc/self/ns/{kind}")) {
                judge.namespaces.remove(&*own.to_string_lossy());
            }
        }
        for top in ["/", "/sys/fs/cgroup", "/dev"] {
            judge.walk(Path::new(top), 12);
        }
        Ok(judge)
    }

    /// All that is there now, on the device of the directory itself.
    fn walk(&mut self, dir: &Path, depth: usize) {
        let Ok(own) = fs::metadata(dir) else { return };
        self.own.insert((own.dev(), own.ino()));
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(stat) = fs::symlink_metadata(entry.path()) else { continue };
            if stat.dev() != own.dev() {
                continue;
            }
            self.own.insert((stat.dev(), stat.ino()));
            if stat.is_dir() && depth > 0 {
                self.walk(&entry.path(), depth - 1);
            }
        }
    }

    fn of_the_host(&self, stat: &fs::Metadata) -> bool {
        self.devices.contains(&stat.dev()) && !self.own.contains(&(stat.dev(), stat.ino()))
    }

    /// Everything that a process shows. What can't be looked at is not there.
    pub fn look(&self, pid: i32, found: &mut Found) {
        let at = |name: &str| format!("/proc/{pid}/{name}");
        for (name, way) in [("root", ""), ("cwd", "../../../../../../../../../..")] {
            let path = at(name);
            if let Ok(stat) = fs::metadata(&path)
                && self.of_the_host(&stat)
            {
                found.insert((if name == "root" { "root" } else { "cwd" }, text(&path, &stat)));
            }
            if fs::File::open(format!("{path}/{way}{}", self.marker)).is_ok() {
                found.insert(("file", format!("{name}/{way}MARKER")));
            }
        }
        self.executable(pid, found);
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user", "time"] {
            if let Ok(link) = fs::read_link(at(&format!("ns/{kind}"))) {
                let link = link.to_string_lossy().into_owned();
                if self.namespaces.contains(&link) {
                    let name = fs::read_to_string(at("comm")).unwrap_or_default();
                    found.insert(("namespace", format!("{link} in {}", name.trim_end())));
                }
            }
        }
        if contains(&at("environ"), &self.secret) {
            found.insert(("environment", self.secret.clone()));
        }
        if contains(&at("mountinfo"), &self.mount) {
            found.insert(("mounts", self.mount.clone()));
        }
        // Who is in a user namespace of his own has his capabilities there, and over nothing of ours.
        let elsewhere = fs::read(at("uid_map")).is_ok_and(|map| Some(map) != self.uid_map);
        if !elsewhere {
            self.rights(&fs::read_to_string(at("status")).unwrap_or_default(), found);
        }
        self.descriptors(pid, found);
    }

    /// What it may do by its status: more than the container's processes?
    fn rights(&self, status: &str, found: &mut Found) {
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        // Who is dead does nothing.
        if of("State").is_none_or(|state| state.starts_with(['Z', 'X'])) {
            return;
        }
        for line in &self.status {
            let (name, wanted) = line.split_once(':').unwrap_or((line, ""));
            if of(name).is_some_and(|value| value != wanted) {
                found.insert((
                    "protection",
                    format!("{name} is {}, not {wanted}", of(name).unwrap_or_default()),
                ));
            }
        }
        for name in ["CapEff", "CapPrm"] {
            let has = of(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
            if let Some(may) = self.capabilities
                && has & !may != 0
            {
                found.insert(("capability", format!("{name} has {:#x} more", has & !may)));
            }
        }
    }

    fn executable(&self, pid: i32, found: &mut Found) {
        let path = format!("/proc/{pid}/exe");
        if let Ok(stat) = fs::metadata(&path) {
            if self.runtime == Some((stat.dev(), stat.ino())) {
                found.insert(("executable", "the runtime's file".to_owned()));
            } else if self.of_the_host(&stat) {
                found.insert(("executable", text(&path, &stat)));
            }
        }
        let Some((device, inode)) = self.runtime else { return };
        let mark = format!(" {:02x}:{:02x} {inode} ", libc::major(device), libc::minor(device));
        if contains(&format!("/proc/{pid}/maps"), &mark) {
            found.insert(("mapping", "the runtime's file".to_owned()));
        }
        for entry in fs::read_dir(format!("/proc/{pid}/map_files")).into_iter().flatten().flatten() {
            if fs::metadata(entry.path()).is_ok_and(|stat| (stat.dev(), stat.ino()) == (device, inode)) {
                found.insert(("mapping", "map_files leads to the runtime's file".to_owned()));
            }
        }
    }

    fn descriptors(&self, pid: i32, found: &mut Found) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let path = entry.path().to_string_lossy().into_owned();
            let Ok(stat) = fs::metadata(&path) else { continue };
            let _ = fs::read(format!("/proc/{pid}/fdinfo/{fd}"));
            let kind = stat.file_type();
            // Memory devices and terminals are harmless, pipes and sockets lead nowhere.
            let harmless = kind.is_char_device() && [1, 5, 136].contains(&libc::major(stat.rdev()));
            let leads = kind.is_dir() || kind.is_file() || kind.is_block_device() || kind.is_char_device();
            if fd > 2 && leads && !harmless && !self.asked.contains(&fd) && self.of_the_host(&stat) {
                found.insert(("descriptor", text(&path, &stat)));
            }
            if kind.is_dir() {
                for way in ["", "/../../../../../../../../../.."] {
                    if fs::File::open(format!("{path}{way}{}", self.marker)).is_ok() {
                        found.insert(("file", format!("fd/N{way}MARKER")));
                    }
                }
            }
        }
    }
}

/// What the link says, and which file it is.
fn text(path: &str, stat: &fs::Metadata) -> String {
    let link = fs::read_link(path).map(|to| to.display().to_string()).unwrap_or_default();
    format!("{link} ({}:{})", stat.dev(), stat.ino())
}

fn contains(path: &str, mark: &str) -> bool {
    let mark = mark.as_bytes();
    !mark.is_empty() && fs::read(path).is_ok_and(|all| all.windows(mark.len()).any(|part| part == mark))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// `DEV:INO`.
pub fn file(text: &str) -> Result<File, String> {
    let (device, inode) = text.split_once(':').ok_or_else(|| format!("{text}: DEV:INO is wanted"))?;
    Ok((number(device)?, number(inode)?))
}

/// Who is there: pids of this PID namespace.
pub fn everybody() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// How often each kind of thing was seen, with some examples.
#[derive(Default)]
pub struct Tally(BTreeMap<&'static str, (u64, Vec<String>)>);

/// Examples of a kind that are told.
const EXAMPLES: usize = 4;

impl Tally {
    /// Adds what one process has shown.
    pub fn add(&mut self, pid: i32, found: Found) {
        for (kind, which) in found {
            let (count, examples) = self.0.entry(kind).or_default();
            *count += 1;
            if examples.len() < EXAMPLES {
                examples.push(format!("{which} of {pid}"));
            }
        }
    }

    /// A line for each kind, as one text.
    pub fn lines(&self) -> String {
        let line = |(kind, (count, examples)): (&&str, &(u64, Vec<String>))| {
            format!("host {kind}: {count} times, {}\n", examples.join(", "))
        };
        self.0.iter().map(line).collect()
    }
}

/// Stops a process, by signal.
pub fn stop(pid: i32) -> bool {
    sys::kill(pid, libc::SIGSTOP).is_ok()
}

/// Lets it go on.
pub fn go_on(pid: i32) {
    let _ = sys::kill(pid, libc::SIGCONT);
}
