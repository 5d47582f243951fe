//! What a pod says of itself: states and events, plain values. Nothing here does anything.

use std::path::PathBuf;
use std::time::SystemTime;

use super::request::{Ended, RootfsMount, Stdio, Target};

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits for start.
    Created,
    /// It runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// It has ended.
    Stopped,
}

/// All that is known of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// Which one.
    pub target: Target,
    /// The container's.
    pub bundle: PathBuf,
    /// Its status.
    pub status: Status,
    /// 0: none yet (an exec that waits for start).
    pub pid: u32,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was started.
    pub started_at: Option<SystemTime>,
    /// When it is stopped.
    pub ended: Option<Ended>,
    /// Its streams, as they were asked for.
    pub stdio: Stdio,
    /// Absolute path in the cgroup2 mount; none: it has none of its own.
    pub cgroup: Option<PathBuf>,
    /// Bytes of output that could not be logged.
    pub log_bytes_lost: u64,
    /// What a kill that doesn't take is waiting for; empty: none.
    pub stuck: String,
}

/// The whole truth about the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Rises with every change.
    pub version: u64,
    /// All containers, those that are being made or removed excepted.
    pub containers: Vec<ProcessState>,
}

/// What happened, in the order in which it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// To which container or exec.
    pub target: Target,
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: Happening,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A container was made.
    Created {
        /// Of its process.
        pid: u32,
        /// Its bundle.
        bundle: PathBuf,
        /// Its streams.
        stdio: Stdio,
        /// What the request had.
        rootfs_mounts: Vec<RootfsMount>,
    },
    /// A container was started.
    Started {
        /// Of its process.
        pid: u32,
    },
    /// An exec was added.
    ExecAdded,
    /// An exec was started.
    ExecStarted {
        /// Of its process.
        pid: u32,
    },
    /// The kernel killed for memory; comes before [`Self::Exited`] if that was the end of it.
    Oom,
    /// A process ended.
    Exited {
        /// As it was.
        pid: u32,
        /// How.
        ended: Ended,
    },
    /// It was frozen.
    Paused,
    /// It goes on.
    Resumed,
    /// It was removed.
    Deleted {
        /// As it was; 0: it never had one.
        pid: u32,
        /// How it had ended.
        ended: Ended,
    },
}
