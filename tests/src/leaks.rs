//! The leak check: processes, mounts, cgroups, state directories and temporary files that a test's runtime left.
//!
//! Zombies are not counted: they wait for a parent that is not the runtime.

use crate::runtime::Runtime;
use std::collections::BTreeSet;
use std::path::Path;

/// What belongs to a test at one moment.
pub struct Traces {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Traces {
    /// Looks around for what bears the test's name, lies in its directory or in its cgroup.
    pub fn take(name: &str, dir: &Path, cgroup: &str) -> Self {
        Self { processes: processes(name, dir, cgroup), mounts: mounts(), files: files(dir) }
    }

    /// What is here and was not in `before`; the test's cgroup must have no children either.
    pub fn beyond(&self, before: &Self, cgroup: &Path) -> Vec<String> {
        let new = |now: &BTreeSet<String>, then: &BTreeSet<String>| -> Vec<String> {
            now.difference(then).cloned().collect()
        };
        let mut found = new(&self.processes, &before.processes);
        found.extend(new(&self.mounts, &before.mounts));
        found.extend(new(&self.files, &before.files));
        found.extend(below(cgroup).into_iter().map(|path| format!("cgroup {path}")));
        found
    }
}

fn processes(name: &str, dir: &Path, cgroup: &str) -> BTreeSet<String> {
    let mark = format!("RT_TEST_CASE={name}");
    let dir = dir.to_string_lossy();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(pid) =
            path.file_name().and_then(|n| n.to_str()).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        if stat.is_empty() || state.starts_with(['Z', 'X']) {
            continue;
        }
        let environ = std::fs::read(path.join("environ")).unwrap_or_default();
        let marked = environ.split(|&b| b == 0).any(|v| v == mark.as_bytes());
        let member = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let member =
            member.lines().any(|line| line.ends_with(cgroup) || line.contains(&format!("{cgroup}/")));
        let inside = ["root", "cwd", "exe"].iter().any(|link| {
            std::fs::read_link(path.join(link))
                .is_ok_and(|t| t.to_string_lossy().starts_with(&format!("{dir}/")))
        });
        if marked || member || inside {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found
                .insert(format!("process {pid} {} {line}", if state.is_empty() { "?" } else { &state[..1] }));
        }
    }
    found
}

/// This thread's mount table, without the mount ids.
fn mounts() -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| format!("mount {point}")).collect()
}

/// Mount points below a directory, deepest first.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
    let mut found: Vec<String> = points.filter(|point| Path::new(point).starts_with(dir)).collect();
    found.reverse();
    found
}

fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in ["state", "tmp"] {
        for entry in std::fs::read_dir(dir.join(part)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            // crun keeps compiled filters there for the next container; that is its design.
            if part == "state" && name == ".cache" && Runtime::under_test().is("crun") {
                continue;
            }
            found.insert(format!("file {}", entry.path().display()));
        }
    }
    found
}

fn below(cgroup: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|e| e.path().is_dir()).map(|e| e.path().display().to_string()).collect()
}

/// Removes a cgroup and all below it.
pub fn remove_cgroups(top: &Path) {
    for entry in std::fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    let gone = || std::fs::remove_dir(top).is_ok() || !top.exists();
    crate::wait::within(std::time::Duration::from_secs(2), || gone().then_some(()));
}
