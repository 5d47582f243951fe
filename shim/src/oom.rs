//! Whether the kernel has killed for memory in a cgroup: asked before the cgroup goes, and told while it lives.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

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

/// Calls `tell` with the count whenever it has risen. None where there is no memory controller.
///
/// The file is polled, not watched by inotify, of which a user has 128.
#[expect(
    deprecated,
    reason = "its replacement is unsafe for types that may lie about their descriptor; OwnedFd doesn't"
)]
pub fn watch(cgroup: &Path, tell: impl Fn(u64) + Send + 'static) -> Option<Watch> {
    let file = File::open(cgroup.join("memory.events")).ok()?;
    let events = AsyncFd::with_interest(OwnedFd::from(file.try_clone().ok()?), Interest::PRIORITY).ok()?;
    Some(Watch(tokio::spawn(async move {
        let mut told = 0;
        // ORDER: read after the wait begins: what changes between is told by the next wait.
        while let Some(count) = count(&file) {
            if count > told {
                told = count;
                tell(count);
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

/// How often, in this cgroup and below; 0 if nobody can say (no memory controller).
pub fn kills(cgroup: &Path) -> u64 {
    let text = std::fs::read_to_string(cgroup.join("memory.events")).unwrap_or_default();
    parse(&text)
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
}
