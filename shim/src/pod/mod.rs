//! The pod: one owner task holds everything of it; [`Pod`] is how others reach that task. It speaks no protocol.

mod bundle;
mod create;
mod exec;
mod gate;
mod host_rootfs;
mod limits;
mod memory;
mod owner;
mod remove;
pub mod report;
pub mod request;
mod start;
mod stop;
mod streams;
mod tokens;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};

use crate::children::Children;
use crate::error::{Context, Error, Kind, Result};
use crate::process::Answer;
use crate::rt::Runtime;
pub(crate) use bundle::Config as BundleConfig;
pub(crate) use exec::Ahead;
pub(crate) use host_rootfs::unmount_all as unmount_rootfs;
use owner::{Line, Owner};
pub use report::*;
pub use request::*;

/// [`Ended::reason`] of an exec that had a timeout.
pub const TIMED_OUT: &str = "timed out";

/// A line to the pod's owner task. Cheap to clone; each method sends one message and waits for the answer. A caller that goes
/// away does not stop what it asked for.
#[derive(Debug, Clone)]
pub struct Pod {
    line: Line,
    version: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
}

impl Pod {
    /// Starts the owner task on the present runtime (current-thread, with I/O, time and signals), makes this process the
    /// subreaper and opens `rt`. Once per process: from now on every child of this process is reaped here.
    pub fn open(options: Options) -> Result<Self> {
        nix::sys::prctl::set_child_subreaper(true).what(|| "become the subreaper")?;
        let sigchld = signal(SignalKind::child()).what(|| "listen for SIGCHLD")?;
        let rt = Runtime::open(&options)?;
        let (sender, messages) = unbounded_channel();
        let (line, version, closed) = (Line(sender), watch::Sender::new(1), watch::Sender::new(false));
        let pod = Self { line: line.clone(), version: version.subscribe(), closed: closed.subscribe() };
        let owner = Owner {
            options,
            rt,
            children: Children::default(),
            containers: BTreeMap::new(),
            tokens: tokens::Tokens::default(),
            line,
            version,
            listeners: Vec::new(),
            closed,
        };
        tokio::spawn(owner.run(messages, sigchld));
        Ok(pod)
    }

    /// One message and its answer, which may come much later.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Owner, Answer<T>) + Send + 'static,
    ) -> Result<T> {
        let (answer, reply) = oneshot::channel();
        self.line.send(move |owner| question(owner, answer));
        reply.await.unwrap_or_else(|_| Err(Error::new(Kind::Unavailable, "the pod has ended")))
    }

    /// One message whose answer is at hand.
    async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Owner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask(|owner, answer| drop(answer.send(question(owner)))).await
    }

    /// Makes a container and gives the pid of its process, which waits for start. The same request again joins the first one
    /// (and gives the same answer when that is done); another one under the same id is Exists.
    pub async fn create(&self, request: Create) -> Result<u32> {
        self.ask(|owner, answer| owner.create(request, answer)).await
    }

    /// Starts the process of a created container, or an exec that was added.
    pub async fn start(&self, target: Target) -> Result<Started> {
        self.ask(move |owner, answer| owner.start(&target, answer)).await
    }

    /// Ends a container: signal, grace, SIGKILL, cgroup.kill; gives how it ended, also if it had before. A second call with a
    /// shorter grace shortens the first. Timeout, with the process's name, state and wait channel, if it survives all of it.
    pub async fn stop(&self, request: Stop) -> Result<Ended> {
        self.ask(move |owner, answer| owner.stop(&request, answer)).await
    }

    /// Sends one signal and waits for nothing. WrongStatus if the process has ended.
    pub async fn kill(&self, request: Kill) -> Result<()> {
        self.look(move |owner| owner.kill(&request)).await
    }

    /// Removes an ended or created container, or an ended or added exec, one that is being made once it is; gives what is left to say of
    /// it. With [`IfRunning::Kill`] one that runs too. NotFound if there is none.
    pub async fn remove(&self, target: Target, running: IfRunning) -> Result<Removed> {
        self.ask(move |owner, answer| owner.remove(&target, running, answer)).await
    }

    /// Forgets an exec that runs, or has ended: nobody will ask for it. Its process goes on without its streams. NotFound if there is none,
    /// WrongStatus before it was started.
    pub async fn let_go(&self, target: Target) -> Result<()> {
        self.look(move |owner| owner.let_go(&target)).await
    }

    /// Adds an exec that waits for [`Self::start`].
    pub async fn add_exec(&self, request: Exec) -> Result<()> {
        self.look(|owner| {
            let target = request.target.clone();
            owner.add_exec(request)?;
            owner.launch_ahead_soon(&target);
            Ok(())
        })
        .await
    }

    /// Adds an exec and starts it. One that can't be started is not kept.
    pub async fn exec(&self, request: Exec) -> Result<Started> {
        self.ask(move |owner, answer| {
            let target = request.target.clone();
            if let Err(error) = owner.add_exec(request) {
                return drop(answer.send(Err(error)));
            }
            let (start, started) = oneshot::channel();
            owner.start(&target, start);
            let line = owner.line.clone();
            tokio::spawn(async move {
                let Ok(started) = started.await else { return };
                line.send(move |owner| {
                    if started.is_err() {
                        owner.remove(&target, IfRunning::Kill, oneshot::channel().0);
                    }
                    let _ = answer.send(started);
                });
            });
        })
        .await
    }

    /// Waits for the end of a process; gives it at once if that is past.
    pub async fn wait(&self, target: Target) -> Result<Ended> {
        let ended = self.look(move |owner| owner.end_of(&target)).await?;
        ended.await.map_err(|_| Error::not_found("the process was removed before its end was seen"))
    }

    /// Permits connections to a running process's streams: output from now on; stdin if it has one.
    pub async fn attach(&self, request: Attach) -> Result<Attached> {
        self.look(move |owner| owner.attach(&request)).await
    }

    /// Gives the connection for a stream that [`Self::exec`] or [`Self::attach`] permitted: what follows the hello line on an
    /// accepted socket, raw from here on. NotFound if the token is unknown, too old, or that stream has come already.
    pub async fn stream(&self, token: &str, name: StreamName, connection: UnixStream) -> Result<()> {
        let token = token.to_owned();
        self.look(move |owner| owner.stream(&token, name, connection)).await
    }

    /// Resizes a process's terminal. Invalid if it has none.
    pub async fn resize(&self, target: Target, size: Size) -> Result<()> {
        self.look(move |owner| owner.resize(&target, size)).await
    }

    /// Closes the shim's hold on a process's stdin: it ends when its other writers do.
    pub async fn close_stdin(&self, target: Target) -> Result<()> {
        self.look(move |owner| owner.close_stdin(&target)).await
    }

    /// Opens a running container's log file anew, after its rotation.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        let reopened = self.look(move |owner| owner.reopen_log(&id)).await?;
        crate::io::opened(reopened, create::OPENING).await
    }

    /// `rt update` with the runtime-spec's LinuxResources as JSON.
    pub async fn update(&self, id: &str, resources: Vec<u8>) -> Result<()> {
        let id = id.to_owned();
        self.ask(move |owner, answer| owner.update(&id, &resources, answer)).await
    }

    /// Freezes a container.
    pub async fn pause(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.ask(move |owner, answer| owner.pause(&id, answer)).await
    }

    /// Thaws it.
    pub async fn resume(&self, id: &str) -> Result<()> {
        let id = id.to_owned();
        self.ask(move |owner, answer| owner.resume(&id, answer)).await
    }

    /// The pids of a container's processes, as the host sees them, and the exec that each is the first of, if it is.
    pub async fn pids(&self, id: &str) -> Result<Vec<(u32, Option<String>)>> {
        let id = id.to_owned();
        self.look(move |owner| owner.pids(&id)).await
    }

    /// What is known of a process. NotFound also while it is being made.
    pub async fn state(&self, target: Target) -> Result<ProcessState> {
        self.look(move |owner| {
            let absent = || Error::not_found(format!("{target} does not exist"));
            owner.process(&target)?;
            let container = owner.container(&target.container)?;
            let execution = target.exec.as_ref().and_then(|exec| container.execs.get(exec));
            let process = execution.map_or(&container.process, |execution| &execution.process);
            process.report(target.clone(), container).ok_or_else(absent)
        })
        .await
    }

    /// The whole truth, at once if `after` is not its present version, else when something changes or `wait` is over.
    pub async fn watch(&self, after: u64, wait: Duration) -> Result<Snapshot> {
        let mut version = self.version.clone();
        let changed = version.wait_for(|version| *version != after);
        let _ = tokio::time::timeout(wait, changed).await; // unchanged is an answer too
        self.look(|owner| Ok(owner.snapshot())).await
    }

    /// All events from now on, in order. The receiver must keep reading: they are queued without a bound.
    pub async fn subscribe_events(&self) -> Result<UnboundedReceiver<Event>> {
        self.look(|owner| {
            let (listener, events) = unbounded_channel();
            owner.listeners.push(listener);
            Ok(events)
        })
        .await
    }

    /// Ends the pod if no container is left, with [`IfRunning::Kill`] after ending those first; else WrongStatus. After this
    /// every call is Unavailable, and [`Self::closed`] returns.
    pub async fn shutdown(&self, running: IfRunning) -> Result<()> {
        self.ask(move |owner, answer| owner.shutdown(running, answer)).await
    }

    /// Returns when the pod has ended: the time for the process to leave.
    pub async fn closed(&self) {
        let _ = self.closed.clone().wait_for(|closed| *closed).await; // an owner that is gone is an end too
    }
}
