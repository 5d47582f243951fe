//! A container's status: a pure function of what is stored and of what is seen. It does not look at the system.
//!
//! Only two stages are ever stored, since only they are ours to decide; the rest is seen at the time of asking, so that
//! no crash and no reboot can leave a lie behind:
//!
//! ```text
//!   stored:  (reserve) ──▶ Creating ──────────────────▶ Created ────────────────────────────────────▶ (delete)
//!                            │                            │
//!   seen:                    │ `rt create` at work        │ init alive ── start FIFO there ─▶ created ─┐
//!                            │   └─▶ creating             │            └─ FIFO gone ────────▶ running ─┤
//!                            │ it was killed              │                                            │ cgroup frozen
//!                            └────▶ stopped               │ init gone ─▶ stopped                       └───▶ paused
//! ```

use std::fmt;

/// What is stored. It only moves forward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// `rt create` is at work, or was killed there.
    #[default]
    Creating,
    /// `rt create` is done: init waits at the start FIFO, or is past it.
    Created,
}

/// What is seen on the system at the time of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who is there to carry the container on: `rt create` in stage Creating, init in stage Created.
    pub owner: Presence,
    /// The FIFO at which init waits for `start`.
    pub start_fifo: Presence,
    /// The cgroup's freezer.
    pub freezer: Freezer,
}

/// There or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Here,
    /// It is not.
    Gone,
}

/// State of a cgroup's freezer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezer {
    /// Its processes may run.
    Thawed,
    /// Its processes are stopped, or about to be.
    Frozen,
}

/// As the runtime specification and runc name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `rt create` is at work.
    Creating,
    /// Waits for `start`.
    Created,
    /// The user's program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// There is no process any more.
    Stopped,
}

impl Status {
    /// The word for the state JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The diagram above, as a table.
pub fn of(stage: Stage, seen: Seen) -> Status {
    match (stage, seen.owner, seen.freezer, seen.start_fifo) {
        (_, Presence::Gone, _, _) => Status::Stopped,
        (Stage::Creating, Presence::Here, _, _) => Status::Creating,
        (Stage::Created, Presence::Here, Freezer::Frozen, _) => Status::Paused,
        (Stage::Created, Presence::Here, Freezer::Thawed, Presence::Here) => Status::Created,
        (Stage::Created, Presence::Here, Freezer::Thawed, Presence::Gone) => Status::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::{Freezer::*, Presence::*, *};

    /// Every combination, each with the status that the diagram gives it.
    #[test]
    fn the_table_is_the_diagram() {
        use Status::*;
        let table = [
            (Stage::Creating, Here, Here, Thawed, Creating),
            (Stage::Creating, Here, Here, Frozen, Creating),
            (Stage::Creating, Here, Gone, Thawed, Creating),
            (Stage::Creating, Here, Gone, Frozen, Creating),
            (Stage::Creating, Gone, Here, Thawed, Stopped),
            (Stage::Creating, Gone, Here, Frozen, Stopped),
            (Stage::Creating, Gone, Gone, Thawed, Stopped),
            (Stage::Creating, Gone, Gone, Frozen, Stopped),
            (Stage::Created, Here, Here, Thawed, Created),
            (Stage::Created, Here, Here, Frozen, Paused),
            (Stage::Created, Here, Gone, Thawed, Running),
            (Stage::Created, Here, Gone, Frozen, Paused),
            (Stage::Created, Gone, Here, Thawed, Stopped),
            (Stage::Created, Gone, Here, Frozen, Stopped),
            (Stage::Created, Gone, Gone, Thawed, Stopped),
            (Stage::Created, Gone, Gone, Frozen, Stopped),
        ];
        for (stage, owner, start_fifo, freezer, status) in table {
            assert_eq!(
                of(stage, Seen { owner, start_fifo, freezer }),
                status,
                "{stage:?} {owner:?} {start_fifo:?}"
            );
        }
    }
}
