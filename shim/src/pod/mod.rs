//! The pod: one owner task holds everything of it; [`Pod`] is how others reach that task. It speaks no protocol.

pub mod request;

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::{Error, Result};
pub use request::*;

/// A line to the pod's owner task. Cheap to clone; each method sends one message and waits for the answer. A caller that goes
/// away does not stop what it asked for.
#[derive(Debug, Clone)]
pub struct Pod {}

/// What a step of the work has not reached yet.
fn not_yet<T>(what: &str) -> Result<T> {
    Err(Error::unsupported(format!("{what}: not yet")))
}

impl Pod {
    /// Starts the owner task on the present runtime (current-thread, with I/O, time and signals), makes this process the
    /// subreaper and opens `rt`. Once per process.
    pub fn open(_options: Options) -> Result<Self> {
        not_yet("open a pod")
    }

    /// Makes a container and gives the pid of its process, which waits for start. The same request again joins the first one
    /// (and gives the same answer when that is done); another one under the same id is Exists.
    pub async fn create(&self, _request: Create) -> Result<u32> {
        not_yet("create a container")
    }

    /// Starts the process of a created container, or an exec that was added.
    pub async fn start(&self, _target: Target) -> Result<Started> {
        not_yet("start a process")
    }

    /// Ends a container: signal, grace, SIGKILL, cgroup.kill; gives how it ended, also if it had before. A second call with a
    /// shorter grace shortens the first. Timeout, with the process's name, state and wait channel, if it survives all of it.
    pub async fn stop(&self, _request: Stop) -> Result<Ended> {
        not_yet("stop a container")
    }

    /// Sends one signal and waits for nothing. WrongStatus if the process has ended.
    pub async fn kill(&self, _request: Kill) -> Result<()> {
        not_yet("send a signal")
    }

    /// Removes an ended or created container, or an ended or added exec; gives what is left to say of it. NotFound if there is
    /// none.
    pub async fn remove(&self, _target: Target, _running: IfRunning) -> Result<Removed> {
        not_yet("remove a container")
    }

    /// Adds an exec that waits for [`Self::start`].
    pub async fn add_exec(&self, _request: Exec) -> Result<()> {
        not_yet("add an exec")
    }

    /// Adds an exec and starts it.
    pub async fn exec(&self, _request: Exec) -> Result<Started> {
        not_yet("start an exec")
    }

    /// Waits for the end of a process; gives it at once if that is past.
    pub async fn wait(&self, _target: Target) -> Result<Ended> {
        not_yet("wait for a process")
    }

    /// Permits connections to a running process's streams: output from now on; stdin if it has one.
    pub async fn attach(&self, _request: Attach) -> Result<Attached> {
        not_yet("attach")
    }

    /// Gives the connection for a stream that [`Self::exec`] or [`Self::attach`] permitted: what follows the hello line on an
    /// accepted socket, raw from here on. NotFound if the token is unknown, too old, or that stream has come already.
    pub async fn stream(&self, _token: &str, _name: StreamName, _connection: UnixStream) -> Result<()> {
        not_yet("connect a stream")
    }

    /// Resizes a process's terminal. Invalid if it has none.
    pub async fn resize(&self, _target: Target, _size: Size) -> Result<()> {
        not_yet("resize a terminal")
    }

    /// Closes the shim's hold on a process's stdin: it ends when its other writers do.
    pub async fn close_stdin(&self, _target: Target) -> Result<()> {
        not_yet("close stdin")
    }

    /// Opens a running container's log file anew, after its rotation.
    pub async fn reopen_log(&self, _id: &str) -> Result<()> {
        not_yet("reopen a log")
    }

    /// `rt update` with the runtime-spec's LinuxResources as JSON.
    pub async fn update(&self, _id: &str, _resources: Vec<u8>) -> Result<()> {
        not_yet("update limits")
    }

    /// Freezes a container.
    pub async fn pause(&self, _id: &str) -> Result<()> {
        not_yet("pause a container")
    }

    /// Thaws it.
    pub async fn resume(&self, _id: &str) -> Result<()> {
        not_yet("resume a container")
    }

    /// The pids of a container's processes, as the host sees them, and the exec that each is the first of, if it is.
    pub async fn pids(&self, _id: &str) -> Result<Vec<(u32, Option<String>)>> {
        not_yet("list processes")
    }

    /// What is known of a process.
    pub async fn state(&self, _target: Target) -> Result<ProcessState> {
        not_yet("look at a process")
    }

    /// The whole truth, at once if `after` is not its present version, else when something changes or `wait` is over.
    pub async fn watch(&self, _after: u64, _wait: Duration) -> Result<Snapshot> {
        not_yet("watch a pod")
    }

    /// All events from now on, in order. The receiver must keep reading: they are queued without a bound.
    pub async fn subscribe_events(&self) -> Result<UnboundedReceiver<Event>> {
        not_yet("subscribe to events")
    }

    /// Ends the pod if no container is left, with [`IfRunning::Kill`] after ending those first; else WrongStatus. After this
    /// every call is Unavailable, and [`Self::closed`] returns.
    pub async fn shutdown(&self, _running: IfRunning) -> Result<()> {
        not_yet("shut a pod down")
    }

    /// Returns when the pod has ended: the time for the process to leave.
    pub async fn closed(&self) {}
}
