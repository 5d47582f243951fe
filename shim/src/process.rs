//! A process of the pod as the owner task knows it. It performs nothing: the flows in [`crate::pod`] do.

use std::path::PathBuf;
use std::time::SystemTime;

use tokio::sync::{oneshot, watch};

use crate::error::{Error, Kind, Result};
use crate::io::Held;
use crate::pod::{Create, Ended, Exec, ProcessState, Removed, Status, Stdio, Target};
use crate::state::{Effect, Event, State, step};

/// Where an answer goes. Whoever asked may have gone.
pub type Answer<T> = oneshot::Sender<Result<T>>;

/// A container's own process, or an exec.
#[derive(Debug)]
pub struct Process {
    /// Where it stands.
    pub state: State,
    /// 0: it never had one.
    pub pid: u32,
    /// Whether the pid is still its own: not reaped.
    pub alive: bool,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was started.
    pub started_at: Option<SystemTime>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Said beside how it ended.
    pub reason: String,
    /// As asked for.
    pub stdio: Stdio,
    /// None until it has streams.
    pub streams: Option<Held>,
    /// They get [`Self::ended`].
    pub waiters: Vec<oneshot::Sender<Ended>>,
    /// They wait for its removal.
    pub removers: Vec<Answer<Removed>>,
    /// Whether a SIGKILL of ours was on its way.
    pub felled: bool,
    /// What a kill that doesn't take is waiting for.
    pub stuck: String,
}

/// A container.
#[derive(Debug)]
pub struct Container {
    /// What it was made from.
    pub request: Create,
    /// What is needed of the bundle's config.json, as it was then: what becomes of the file later changes nothing.
    pub config: crate::pod::BundleConfig,
    /// Its own process.
    pub process: Process,
    /// Absolute path of its cgroup.
    pub cgroup: Option<PathBuf>,
    /// Whether its processes die with its own.
    pub own_pid_namespace: bool,
    /// They wait for it to be made.
    pub creators: Vec<Answer<u32>>,
    /// Its end is under way: when SIGKILL comes, and who waits.
    pub ladder: Option<Ladder>,
    /// Tells of kills for memory.
    pub oom: Option<crate::oom::Watch>,
    /// What it and those above it counted; none where there is no memory controller.
    pub memory: Option<crate::oom::Counts>,
    /// How many kills for memory were told.
    pub oom_kills: u64,
    /// Extra processes.
    pub execs: std::collections::BTreeMap<String, Execution>,
}

/// An exec.
#[derive(Debug)]
pub struct Execution {
    /// What runs.
    pub request: Exec,
    /// The process.
    pub process: Process,
    /// Its `rt`, if that waits for the start.
    pub ahead: Option<crate::pod::Ahead>,
}

/// See [`Container::ladder`].
#[derive(Debug)]
pub struct Ladder {
    /// Can only come nearer.
    pub kill_at: watch::Sender<tokio::time::Instant>,
    /// They get how it ended, or why it doesn't.
    pub waiters: Vec<Answer<Ended>>,
}

impl Process {
    /// One that is yet to be made.
    pub fn new(stdio: Stdio) -> Self {
        Self {
            state: State::Absent,
            pid: 0,
            alive: false,
            created_at: SystemTime::now(),
            started_at: None,
            ended: None,
            reason: String::new(),
            stdio,
            streams: None,
            waiters: Vec::new(),
            removers: Vec::new(),
            felled: false,
            stuck: String::new(),
        }
    }

    /// Takes a step of the table. WrongStatus, with the reason, if it has none.
    pub fn step(&mut self, target: &Target, event: Event) -> Result<&'static [Effect]> {
        match step(self.state, event) {
            Ok((state, effects)) => {
                self.state = state;
                Ok(effects)
            }
            Err(why) => {
                let kind = match (self.state, event) {
                    (State::Absent, _) => Kind::NotFound,
                    (_, Event::Create) => Kind::Exists,
                    (_, event) if event >= Event::Made => Kind::Internal,
                    _ => Kind::WrongStatus,
                };
                Err(Error::new(kind, format!("{target} {why}")))
            }
        }
    }

    /// As others see it; none while it is being made.
    pub fn status(&self) -> Option<Status> {
        match self.state {
            State::Absent | State::Creating => None,
            State::Created | State::Starting => Some(Status::Created),
            State::Running | State::Brief => Some(Status::Running),
            State::Paused => Some(Status::Paused),
            State::Felling if self.ended.is_none() => Some(Status::Created),
            State::Stopped | State::Felling | State::Deleting => Some(Status::Stopped),
        }
    }

    /// All that is known of it; `of` is its container.
    pub fn report(&self, target: Target, of: &Container) -> Option<ProcessState> {
        Some(ProcessState {
            target,
            bundle: of.request.bundle.clone(),
            status: self.status()?,
            pid: self.pid,
            created_at: self.created_at,
            started_at: self.started_at,
            ended: self.ended.clone(),
            stdio: self.stdio.clone(),
            cgroup: of.cgroup.clone(),
            log_bytes_lost: self.streams.as_ref().map_or(0, Held::lost),
            stuck: self.stuck.clone(),
        })
    }

    /// What is said of it when it is removed.
    pub fn removed(&self) -> Removed {
        let ended = self.ended.clone().unwrap_or_else(|| Ended {
            exit_code: 137,
            at: SystemTime::now(),
            oom_cgroup: None,
            reason: self.reason.clone(),
        });
        Removed { pid: self.pid, ended }
    }
}
