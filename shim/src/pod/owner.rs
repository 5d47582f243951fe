//! The owner task: the one place that holds the pod, and what all flows share: finding a process, taking a step of the table,
//! telling of it, seeing ends. Each flow has a file of its own beside this one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use super::tokens::Tokens;
use super::{Ended, Event as PodEvent, Happening, Options, Snapshot, Target};
use crate::children::Children;
use crate::error::{Error, Result};
use crate::process::{Container, Process};
use crate::rt::Runtime;
use crate::state::{Effect, Event, News};
use crate::{record, request};

/// How long the end of a process waits for its output to be written: a disk that hangs must not hide an end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// One thing to do, on the owner task. It never blocks and never waits.
pub type Message = Box<dyn FnOnce(&mut Owner) + Send>;

/// How flows that wait come back to the owner.
#[derive(Debug, Clone)]
pub struct Line(pub mpsc::UnboundedSender<Message>);

impl Line {
    /// Does this on the owner task, after what was sent before.
    pub fn send(&self, message: impl FnOnce(&mut Owner) + Send + 'static) {
        let request = request::current();
        // The pod may have ended.
        let _ = self.0.send(Box::new(move |owner| request::during(request, || message(owner))));
    }
}

/// Everything of the pod.
#[derive(Debug)]
pub struct Owner {
    pub(super) options: Options,
    pub(super) rt: Runtime,
    pub(super) children: Children,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) tokens: Tokens,
    pub(super) line: Line,
    pub(super) version: watch::Sender<u64>,
    pub(super) listeners: Vec<mpsc::UnboundedSender<PodEvent>>,
    pub(super) closed: watch::Sender<bool>,
}

impl Owner {
    /// Runs until the pod is shut down.
    pub async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>, mut sigchld: Signal) {
        while !*self.closed.borrow() {
            tokio::select! {
                Some(message) = messages.recv() => message(&mut self),
                _ = sigchld.recv() => self.reap(),
            }
        }
    }

    /// NotFound if there is none.
    pub fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Error::not_found(format!("container \"{id}\" does not exist")))
    }

    /// NotFound if there is none.
    pub fn process(&mut self, target: &Target) -> Result<&mut Process> {
        let container = self.container(&target.container)?;
        match &target.exec {
            None => Ok(&mut container.process),
            Some(exec) => match container.execs.get_mut(exec) {
                Some(execution) => Ok(&mut execution.process),
                None => Err(Error::not_found(format!("{target} does not exist"))),
            },
        }
    }

    /// Takes a step of the table and does what follows from it, but for what was asked for: true if that may be done now,
    /// false if the same is being done already.
    pub fn step(&mut self, target: &Target, event: Event) -> Result<bool> {
        let effects = self.process(target)?.step(target, event)?;
        let mut perform = false;
        for effect in effects {
            match effect {
                Effect::Perform => perform = true,
                Effect::Join => {}
                Effect::Tell(news) => self.tell(target, *news),
                Effect::Forget => self.forget(target),
            }
        }
        // Who watches sees containers: probes by the second are no news.
        if !perform && target.exec.is_none() {
            self.changed();
        }
        Ok(perform)
    }

    /// Like [`Self::step`] for what has happened and can't be refused: a refusal is a defect of ours, and logged.
    pub fn happened(&mut self, target: &Target, event: Event) {
        if let Err(error) = self.step(target, event) {
            tracing::error!("{error} ({event:?})");
        }
    }

    /// Wakes who watches.
    pub fn changed(&mut self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Tells one event that has no step of its own.
    pub fn publish(&mut self, target: &Target, what: Happening) {
        let event = PodEvent { target: target.clone(), at: SystemTime::now(), what };
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    fn tell(&mut self, target: &Target, news: News) {
        let Ok(process) = self.process(target) else { return };
        let (pid, ended) = (process.pid, process.removed().ended);
        let is_exec = target.exec.is_some();
        let what = match news {
            News::Created if is_exec => Happening::ExecAdded,
            News::Created => match self.container(&target.container) {
                Ok(container) => Happening::Created {
                    pid,
                    bundle: container.request.bundle.clone(),
                    stdio: container.request.stdio.clone(),
                    rootfs_mounts: container.request.rootfs_mounts.clone(),
                },
                Err(_) => return,
            },
            News::Started if is_exec => Happening::ExecStarted { pid },
            News::Started => Happening::Started { pid },
            News::Exited => {
                self.exited(target);
                Happening::Exited { pid, ended }
            }
            News::Paused => Happening::Paused,
            News::Resumed => Happening::Resumed,
            News::Deleted => Happening::Deleted { pid, ended },
        };
        self.publish(target, what);
    }

    /// All who wait for its end get it.
    fn exited(&mut self, target: &Target) {
        let options = self.options.clone();
        let Ok(process) = self.process(target) else { return };
        let Some(ended) = process.ended.clone() else { return };
        process.stuck.clear();
        for waiter in process.waiters.drain(..) {
            let _ = waiter.send(ended.clone());
        }
        if target.exec.is_none() {
            if let Err(error) = record::keep(&options.dir, &target.container, &ended) {
                tracing::error!("{error}");
            }
            if let Ok(container) = self.container(&target.container)
                && let Some(ladder) = container.ladder.take()
            {
                for waiter in ladder.waiters {
                    let _ = waiter.send(Ok(ended.clone()));
                }
            }
        }
    }

    pub(super) fn forget(&mut self, target: &Target) {
        match &target.exec {
            None => {
                self.containers.remove(&target.container);
                record::forget(&self.options.dir, &target.container);
            }
            Some(exec) => {
                if let Ok(container) = self.container(&target.container) {
                    container.execs.remove(exec);
                }
            }
        }
        self.tokens.forget(target);
    }

    /// Sees who has ended.
    pub fn reap(&mut self) {
        for (target, code) in self.children.reap() {
            self.reaped(target, code);
        }
    }

    /// The process is gone. Its cgroup is looked at before anyone can remove it; its end is told when its output is written.
    fn reaped(&mut self, target: Target, exit_code: i32) {
        let oom_cgroup =
            if target.exec.is_none() { self.last_look(&target.container, exit_code) } else { None };
        let Ok(process) = self.process(&target) else { return };
        process.alive = false;
        let reason = std::mem::take(&mut process.reason);
        let ended = Ended { exit_code, at: SystemTime::now(), oom_cgroup, reason };
        let drained = process.streams.as_mut().and_then(crate::io::Held::ended);
        let line = self.line.clone();
        let tell = move |owner: &mut Self| {
            if let Ok(process) = owner.process(&target) {
                process.ended = Some(ended);
                if let Some(streams) = &mut process.streams {
                    streams.close();
                }
            }
            owner.happened(&target, Event::Exit);
        };
        match drained {
            None => tell(self),
            Some(drained) => drop(tokio::spawn(async move {
                let _ = tokio::time::timeout(DRAIN_PATIENCE, drained).await;
                line.send(tell);
            })),
        }
    }

    /// Gets how it ended, when it has.
    pub fn end_of(&mut self, target: &Target) -> Result<oneshot::Receiver<Ended>> {
        let process = self.process(target)?;
        let (waiter, ended) = oneshot::channel();
        match &process.ended {
            // Told only after it was told to all: in a brief life, `started` comes first.
            Some(end) if process.state != crate::state::State::Brief => {
                let _ = waiter.send(end.clone());
            }
            _ => process.waiters.push(waiter),
        }
        Ok(ended)
    }

    /// The truth now.
    pub fn snapshot(&self) -> Snapshot {
        let report = |(id, container): (&String, &Container)| {
            container.process.report(Target::container(id), container)
        };
        Snapshot {
            version: *self.version.borrow(),
            containers: self.containers.iter().filter_map(report).collect(),
        }
    }
}
