//! Whether the kernel has killed for memory in a cgroup. It watches nothing; it is asked before the cgroup goes.

use std::path::Path;

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
