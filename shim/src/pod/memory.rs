//! Kills for memory: whose they were, told before the end that they bring. The counting is [`crate::oom`]'s.
//!
//! While a container's cgroup is there, its own memory.events is the truth. systemd may remove a scope before it could be read; then:
//! - nothing was counted above since the last look: there was no kill;
//! - something was, and every neighbour there is a container of this pod that still answers for itself: what they didn't have was ours;
//! - else, if the process died of a SIGKILL that was not the shim's, it was killed for memory; if not, it was not.
//!
//! Each time one container of the pod has counted a kill all others look again, so that only kills of one moment can be taken for each other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::owner::Owner;
use super::{Happening, Target};

const KILLED: i32 = 128 + libc::SIGKILL;

impl Owner {
    /// What the cgroup of a container that has ended says. Without a PID namespace of its own nobody else ends what its process
    /// leaves behind, and who would print to a log that is done?
    pub(super) fn last_look(&mut self, id: &str, exit_code: i32) -> Option<String> {
        let container = self.container(id).ok()?;
        let (cgroup, own_pid_namespace) = (container.cgroup.clone()?, container.own_pid_namespace);
        container.oom = None;
        let kills = match container.memory.as_mut().map(|memory| memory.look()) {
            None => 0,
            Some(Some(kills)) => kills,
            Some(None) => self.after_the_fact(id, exit_code),
        };
        self.tell_kills(id, kills);
        if let Ok(container) = self.container(id) {
            container.memory = None;
        }
        if !own_pid_namespace && let Err(error) = crate::cgroup::kill(&cgroup) {
            tracing::error!("{error}");
        }
        (kills > 0).then(|| cgroup.display().to_string())
    }

    /// The kernel says that something was killed for memory.
    pub(super) fn killed_for_memory(&mut self, id: &str) {
        let look = |container: &mut crate::process::Container| container.memory.as_mut()?.look();
        if let Some(kills) = self.container(id).ok().and_then(look) {
            self.tell_kills(id, kills);
        }
    }

    /// Told once per rise, and before the end if that was the end of it.
    fn tell_kills(&mut self, id: &str, kills: u64) {
        let Ok(container) = self.container(id) else { return };
        if kills > container.oom_kills {
            container.oom_kills = kills;
            self.publish(&Target::container(id), Happening::Oom);
            self.neighbours_look(id);
        }
    }

    /// All others read their counts. Gives how many kills they had not known of, and who of them has answered.
    fn neighbours_look(&mut self, id: &str) -> (u64, BTreeSet<PathBuf>) {
        let (mut kills, mut answered, mut news) = (0, BTreeSet::new(), Vec::new());
        for (other, container) in self.containers.iter_mut().filter(|(other, _)| *other != id) {
            let Some(memory) = &mut container.memory else { continue };
            let before = memory.kills();
            if let (Some(now), Some(cgroup)) = (memory.look(), &container.cgroup) {
                kills += now.saturating_sub(before);
                answered.insert(cgroup.clone());
                news.push((other.clone(), now));
            }
        }
        for (other, now) in news {
            self.tell_kills(&other, now);
        }
        (kills, answered)
    }

    /// The cgroup is gone, and was not read before.
    fn after_the_fact(&mut self, id: &str, exit_code: i32) -> u64 {
        let Ok(container) = self.container(id) else { return 0 };
        let felled = container.process.felled;
        let Some(memory) = container.memory.take() else { return 0 };
        let asked = self.containers.values().filter(|container| container.memory.is_some()).count();
        let (mut others, mut since) = (0, memory.since());
        // Until nothing was counted while the neighbours were asked: else a kill of theirs would be ours, or ours theirs.
        let answered = loop {
            let (more, answered) = self.neighbours_look(id);
            others += more;
            if std::mem::replace(&mut since, memory.since()) == since {
                break answered;
            }
        };
        let Some(since) = since else {
            let target = Target::container(id);
            tracing::warn!("{target}: its cgroup was gone before its memory.events could be read");
            return memory.kills();
        };
        let ours = since.saturating_sub(others);
        let sure = answered.len() == asked && memory.is_alone_with(&answered);
        match ours {
            0 => memory.kills(),
            _ if sure => memory.kills() + ours,
            _ if exit_code == KILLED && !felled => memory.kills() + 1,
            _ => memory.kills(),
        }
    }
}
