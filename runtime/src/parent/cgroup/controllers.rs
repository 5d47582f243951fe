//! Makes controllers available to a cgroup, level by level, and finds out why one can't be.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use super::files;
use crate::plan::cgroup::{CgroupPlan, Need};

/// What people look at when a container has no limits either: `podman stats`, cAdvisor. The peers enable all that there is.
const ACCOUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Controllers to enable.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Those of limits first.
    names: Vec<&'a str>,
    /// How many of them are.
    needed: usize,
}

impl<'a> Wanted<'a> {
    /// What the plan needs, and what is for accounting.
    pub fn of(plan: &'a CgroupPlan) -> Self {
        let mut names = Vec::with_capacity(8);
        for write in plan.writes.iter().filter(|write| write.need != Need::Lifts) {
            match write.controller() {
                Some(controller) if !names.contains(&controller) => names.push(controller),
                _ => {}
            }
        }
        let needed = names.len();
        for name in ACCOUNTING {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self { names, needed }
    }

    /// Enables as many as there are for the children of a cgroup; true if all that limits need are. One that fails is not an error
    /// here: the file that a limit is written to will be missing, and [`why_missing`] tells the reason.
    pub fn enable(&self, dir: impl AsFd + Copy) -> bool {
        let Ok(enabled) = files::read_line(dir, "cgroup.subtree_control") else { return false };
        if missing(&enabled, &self.names).next().is_none() {
            return true;
        }
        let Ok(offered) = files::read_line(dir, "cgroup.controllers") else { return false };
        let add: Vec<String> = missing(&enabled, &self.names)
            .filter(|name| offered.split_whitespace().any(|offer| offer == *name))
            .map(|name| format!("+{name}"))
            .collect();
        if !add.is_empty() && files::write(dir, "cgroup.subtree_control", &add.join(" ")).is_err() {
            // One that can't be enabled spoils the others.
            for one in add.iter().filter(|_| add.len() > 1) {
                let _ = files::write(dir, "cgroup.subtree_control", one);
            }
        }
        missing(&offered, &self.names[..self.needed]).next().is_none()
    }
}

fn missing<'a>(enabled: &str, wanted: &'a [&str]) -> impl Iterator<Item = &'a str> {
    wanted.iter().copied().filter(move |name| !enabled.split_whitespace().any(|word| word == *name))
}

/// Why a cgroup lacks a controller, and the cure.
#[derive(Debug, PartialEq, Eq)]
pub struct Why {
    /// Follows "the CONTROLLER controller".
    pub reason: String,
    /// What the reader can do.
    pub cure: String,
}

/// Looks from the root of the tree down to the parent of the cgroup at `path`. The place is part of the reason.
pub fn why_missing(controller: &str, root: impl AsFd + Copy, mount: &Path, path: &str) -> Why {
    let has = |offered: Result<String, Errno>| {
        offered.is_ok_and(|offered| offered.split_whitespace().any(|word| word == controller))
    };
    if !has(files::read(root, "cgroup.controllers")) {
        return not_on_host(controller, mount, &std::fs::read_to_string("/proc/cgroups").unwrap_or_default());
    }
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    let mut levels = vec![".".to_owned()];
    for part in above.split('/').filter(|part| !part.is_empty()) {
        levels.push(format!("{}/{part}", levels.last().map_or(".", String::as_str)));
    }
    for level in levels {
        let Ok(dir) = files::below(root, &level) else { break };
        if has(files::read(&dir, "cgroup.subtree_control")) {
            continue;
        }
        let place = mount.join(level.trim_start_matches("./"));
        let place = if level == "." { mount } else { &place }.display().to_string();
        return match files::write(&dir, "cgroup.subtree_control", &format!("+{controller}")) {
            Err(Errno::BUSY) => Why {
                reason: format!("can't be enabled below {place}, which has processes of its own"),
                cure: "move them to a cgroup below it, or name another linux.cgroupsPath".to_owned(),
            },
            Err(Errno::OPNOTSUPP) => Why {
                reason: format!("can't be enabled below {place}, which is a threaded cgroup"),
                cure: "name another linux.cgroupsPath".to_owned(),
            },
            Err(errno) => Why {
                reason: format!(
                    "can't be enabled below {place}: {}",
                    crate::error::errno_text(errno.raw_os_error())
                ),
                cure: format!("write +{controller} to {place}/cgroup.subtree_control"),
            },
            Ok(()) => Why {
                reason: format!("was disabled below {place} while the cgroup was made"),
                cure: "try again".to_owned(),
            },
        };
    }
    Why {
        reason: "is there, but this kernel does not have the file".to_owned(),
        cure: "a newer kernel, or one configured with it".to_owned(),
    }
}

/// `table` is /proc/cgroups: name, number of the cgroup v1 hierarchy (0: none), cgroups, enabled. The controller that files call
/// `io` is named `blkio` there.
fn not_on_host(controller: &str, mount: &Path, table: &str) -> Why {
    let name = if controller == "io" { "blkio" } else { controller };
    let mut line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = line.find(|row| row.first() == Some(&name));
    let place = mount.display();
    match row.as_deref() {
        Some([_, _, _, "0"]) => Why {
            reason: format!("is switched off on this host, so it is missing at {place}"),
            cure: format!("boot without cgroup_disable={name}, or with cgroup_enable={name}"),
        },
        Some([_, hierarchy, ..]) if *hierarchy != "0" => Why {
            reason: format!("is used by cgroup v1 on this host, so it is missing at {place}"),
            cure: format!("boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1={name}"),
        },
        Some(_) => Why {
            reason: format!("is missing at {place}"),
            cure: "enable it in the cgroups above, if this is a container".to_owned(),
        },
        None => Why {
            reason: format!("is missing at {place}: this kernel does not have it"),
            cure: "a kernel that is configured with it".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cure_for_a_missing_controller_depends_on_where_it_is() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\nblkio\t7\t1\t1\nmemory\t0\t1\t0\n";
        let why = |controller| not_on_host(controller, Path::new("/c"), table);
        assert_eq!(why("io").cure, "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=blkio");
        assert_eq!(why("memory").cure, "boot without cgroup_disable=memory, or with cgroup_enable=memory");
        assert_eq!(why("cpuset").reason, "is missing at /c");
        assert_eq!(why("rdma").reason, "is missing at /c: this kernel does not have it");
    }
}
