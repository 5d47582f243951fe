//! What may happen to a process of the pod, and when: one pure, total table. It performs nothing; [`crate::pod`] does.
//!
//! A container's own process and an exec go through the same states; an exec is never paused, and nothing runs to make or
//! delete it.
//!
//! ```text
//!            Create          Made            Start            Executed
//!   Absent ────────▶ Creating ────▶ Created ───────▶ Starting ────────▶ Running ◀──────▶ Paused
//!     ▲  ▲               │           │ │  ▲             │  │ Exit          │     Frozen     │
//!     │  └───────────────┘    Remove │ │  └─────────────┘  ▼               │ Exit    Thawed │
//!     │       NotMade                │ │    NotExecuted  Brief             │                │ Exit
//!     │                              ▼ │ Exit              │ Executed,     │                │
//!     │          Deleted       Felling │                   │ NotExecuted   │                │
//!     ├───────────────────────────┘ │  └────────┐          │               │                │
//!     │                        Exit │           ▼          ▼               ▼                │
//!     │          Deleted            ▼         Stopped ◀────┴───────────────┴────────────────┘
//!     └────────────────────────── Deleting ◀──┘  ▲ Remove
//!                                     └──────────┘ NotDeleted
//! ```
//!
//! Brief: it ended before `rt start` had said that it started. Felling: a created one is killed by its removal.

/// Where a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There is none.
    Absent,
    /// `rt create` runs.
    Creating,
    /// It waits for start.
    Created,
    /// `rt start` or `rt exec` runs.
    Starting,
    /// It has ended while it was being started.
    Brief,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended.
    Stopped,
    /// `rt delete` runs, and kills it.
    Felling,
    /// `rt delete` runs after its end.
    Deleting,
}

/// What happens: requests first, then what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// Someone wants it made.
    Create,
    /// Someone wants it started.
    Start,
    /// Someone sends a signal.
    Signal,
    /// Someone wants an extra process in it.
    Exec,
    /// Someone wants its streams.
    Attach,
    /// Someone has rotated its log.
    Reopen,
    /// Someone changes its limits.
    Update,
    /// Someone wants it frozen.
    Pause,
    /// Someone wants it thawed.
    Resume,
    /// Someone wants it gone.
    Remove,
    /// It was made.
    Made,
    /// It could not be made.
    NotMade,
    /// It was started.
    Executed,
    /// It could not be started.
    NotExecuted,
    /// It has ended, and its output is written.
    Exit,
    /// It was frozen.
    Frozen,
    /// It was thawed.
    Thawed,
    /// It was removed.
    Deleted,
    /// It could not be removed.
    NotDeleted,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// What was asked for may be done now.
    Perform,
    /// The same is being done already: wait for that.
    Join,
    /// Say so to whoever listens.
    Tell(News),
    /// Keep nothing of it.
    Forget,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It exists.
    Created,
    /// It runs.
    Started,
    /// It ended.
    Exited,
    /// It stands still.
    Paused,
    /// It goes on.
    Resumed,
    /// It is gone.
    Deleted,
}

/// Why not, as the end of a sentence that begins with the process.
pub type Refusal = &'static str;

const NOTHING: &[Effect] = &[];
const PERFORM: &[Effect] = &[Effect::Perform];
const JOIN: &[Effect] = &[Effect::Join];
const FORGET: &[Effect] = &[Effect::Forget];
const CREATED: &[Effect] = &[Effect::Tell(News::Created)];
const STARTED: &[Effect] = &[Effect::Tell(News::Started)];
const EXITED: &[Effect] = &[Effect::Tell(News::Exited)];
const CAME_AND_WENT: &[Effect] = &[Effect::Tell(News::Started), Effect::Tell(News::Exited)];
const PAUSED: &[Effect] = &[Effect::Tell(News::Paused)];
const RESUMED: &[Effect] = &[Effect::Tell(News::Resumed)];
const DELETED: &[Effect] = &[Effect::Tell(News::Deleted), Effect::Forget];

/// The table.
pub fn step(state: State, event: Event) -> Result<(State, &'static [Effect]), Refusal> {
    use Event::*;
    use State::*;
    Ok(match (state, event) {
        (Absent, Create) => (Creating, PERFORM),
        (Creating, Create) => (Creating, JOIN),
        (Creating, Made) => (Created, CREATED),
        (Creating, NotMade) => (Absent, FORGET),
        (Created, Start) => (Starting, PERFORM),
        (Created, Remove) => (Felling, PERFORM),
        (Created, Exit) => (Stopped, EXITED),
        (Starting, Executed) => (Running, STARTED),
        (Starting, NotExecuted) => (Created, NOTHING),
        (Starting, Exit) => (Brief, NOTHING),
        (Brief, Executed) => (Stopped, CAME_AND_WENT),
        (Brief, NotExecuted) => (Stopped, EXITED),
        (Running, Pause) => (Running, PERFORM),
        (Running, Frozen) => (Paused, PAUSED),
        (Running | Paused, Exit) => (Stopped, EXITED),
        (Paused, Resume) => (Paused, PERFORM),
        (Paused, Thawed) => (Running, RESUMED),
        (Stopped, Remove) => (Deleting, PERFORM),
        (Felling, Exit) => (Deleting, EXITED),
        (Felling, Deleted) => (Absent, DELETED),
        (Felling, NotDeleted) => (Created, NOTHING),
        (Felling | Deleting, Remove) => (state, JOIN),
        (Deleting, Deleted) => (Absent, DELETED),
        (Deleting, NotDeleted) => (Stopped, NOTHING),
        // What was under way when it ended: too late to matter.
        (Brief | Stopped | Felling | Deleting, Frozen | Thawed) => (state, NOTHING),
        (Created | Starting | Running | Paused | Felling, Signal) => (state, PERFORM),
        (Created | Running, Exec) => (state, PERFORM),
        (Created | Starting | Running | Paused, Attach) => (state, PERFORM),
        (Created | Starting | Running | Paused, Reopen | Update) => (state, PERFORM),
        (_, Create) => return Err("exists already"),
        (_, Start | Signal | Exec | Attach | Reopen | Update | Pause | Resume | Remove) => {
            return Err(why_not(state));
        }
        (_, Made | NotMade | Executed | NotExecuted | Exit | Frozen | Thawed | Deleted | NotDeleted) => {
            return Err("did what it can't do in its state");
        }
    })
}

/// What its state says to a request that doesn't fit.
fn why_not(state: State) -> Refusal {
    match state {
        State::Absent => "does not exist",
        State::Creating => "is still being created",
        State::Created => "has not been started",
        State::Starting => "is being started",
        State::Running => "is running",
        State::Paused => "is paused",
        State::Brief | State::Stopped => "has ended: process already finished",
        State::Felling | State::Deleting => "is being removed",
    }
}

#[cfg(test)]
mod tests;
