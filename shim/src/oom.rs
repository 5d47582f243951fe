//! Whether the kernel has killed for memory in a cgroup: told while it lives, asked when its process has ended. It judges nothing: what
//! the counts mean for a container is `pod::memory`'s.
//!
//! systemd removes a scope as soon as its last process has gone, perhaps before anyone could ask. Every cgroup above counts what happens
//! below it, so those still say whether there was a kill at all.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// Tells of kills until it is dropped, or the cgroup goes.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was counted in a container's cgroup, and above it at the same time.
#[derive(Debug)]
pub struct Counts {
    own: File,
    kills: u64,
    above: Vec<Above>,
}

#[derive(Debug)]
struct Above {
    cgroup: PathBuf,
    events: File,
    kills: u64,
}

impl Counts {
    /// Of a cgroup that is there; the ones above only where systemd may remove it. None where there is no memory controller.
    pub fn open(cgroup: &Path) -> Option<Self> {
        let mut counts = Self { own: events(cgroup)?, kills: 0, above: Vec::new() };
        if cgroup.extension().is_some_and(|kind| kind == "scope") {
            let above = cgroup.ancestors().skip(1);
            counts.above = above
                .map_while(|cgroup| Some(Above { cgroup: cgroup.into(), events: events(cgroup)?, kills: 0 }))
                .collect();
        }
        counts.look()?;
        Some(counts)
    }

    /// How often, as far as it is known.
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// Reads again. None if the cgroup is gone.
    pub fn look(&mut self) -> Option<u64> {
        // ORDER: those above first: a kill between the two readings is counted as ours, and then above once more. Never not at all.
        let above: Vec<_> = self.above.iter().map(|above| count(&above.events)).collect();
        self.kills = count(&self.own)?;
        for (above, now) in self.above.iter_mut().zip(above) {
            above.kills = now.unwrap_or(above.kills);
        }
        Some(self.kills)
    }

    /// For a cgroup that is gone: how often the kernel has killed since the last look, here or in a neighbour. None if nobody can say.
    pub fn since(&self) -> Option<u64> {
        let say = |above: &Above| Some(count(&above.events)?.saturating_sub(above.kills));
        self.above.iter().find_map(say)
    }

    /// Whether nobody but `known` lives in the cgroup just above.
    pub fn is_alone_with(&self, known: &BTreeSet<PathBuf>) -> bool {
        let entries = self.above.first().and_then(|above| std::fs::read_dir(&above.cgroup).ok());
        entries.is_some_and(|entries| {
            let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            dirs.map(|entry| entry.path()).all(|path| known.contains(&path))
        })
    }
}

fn events(cgroup: &Path) -> Option<File> {
    File::open(cgroup.join("memory.events")).ok()
}

/// Calls `tell` whenever the count has risen. None where there is no memory controller.
///
/// The file is polled, not watched by inotify, of which a user has 128.
#[expect(
    deprecated,
    reason = "its replacement is unsafe for types that may lie about their descriptor; OwnedFd doesn't"
)]
pub fn watch(cgroup: &Path, tell: impl Fn() + Send + 'static) -> Option<Watch> {
    let file = events(cgroup)?;
    let events = AsyncFd::with_interest(OwnedFd::from(file.try_clone().ok()?), Interest::PRIORITY).ok()?;
    Some(Watch(tokio::spawn(async move {
        let mut told = 0;
        // ORDER: read after the wait begins: what changes between is told by the next wait.
        while let Some(count) = count(&file) {
            if count > told {
                told = count;
                tell();
            }
            match events.ready(Interest::PRIORITY).await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    })))
}

/// None if the cgroup is gone.
fn count(file: &File) -> Option<u64> {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).ok()?;
    Some(parse(&String::from_utf8_lossy(&text[..length])))
}

fn parse(events: &str) -> u64 {
    let count = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse().ok();
    events.lines().find_map(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_and_not_groups_or_shortages() {
        assert_eq!(parse("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n"), 2);
        assert_eq!(parse("oom 3\noom_group_kill 1\n"), 0);
        assert_eq!(parse(""), 0);
    }

    #[test]
    fn those_above_say_whether_there_was_a_kill_when_the_cgroup_is_gone() {
        let slice = std::env::temp_dir().join(format!("shim-oom-{}.slice", std::process::id()));
        let (scope, neighbour) = (slice.join("a.scope"), slice.join("b.scope"));
        let write = |cgroup: &Path, kills: u64| {
            std::fs::create_dir_all(cgroup).unwrap();
            std::fs::write(cgroup.join("memory.events"), format!("oom {kills}\noom_kill {kills}\n")).unwrap();
        };
        write(&slice, 5);
        write(&scope, 1);
        let mut counts = Counts::open(&scope).unwrap();
        assert_eq!((counts.kills(), counts.look(), counts.since()), (1, Some(1), Some(0)));
        write(&slice, 7);
        assert_eq!(counts.since(), Some(2));
        write(&scope, 2);
        assert_eq!((counts.look(), counts.since()), (Some(2), Some(0)));
        let known =
            |paths: &[&PathBuf]| counts.is_alone_with(&paths.iter().map(|path| (*path).clone()).collect());
        assert!(known(&[&scope]) && !known(&[]));
        write(&neighbour, 0);
        assert!(!known(&[&scope]) && known(&[&scope, &neighbour]));
        // Whoever removes it by itself has been asked before: nothing is kept for a cgroup that is no scope.
        write(&slice.join("c"), 0);
        assert_eq!(Counts::open(&slice.join("c")).unwrap().since(), None);
        std::fs::remove_dir_all(&slice).unwrap();
    }
}
