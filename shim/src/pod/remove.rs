//! Removing: what is left of a container by `rt delete`, an exec from memory; and the end of the pod.

use std::time::Duration;

use super::create::words;
use super::owner::Owner;
use super::{IfRunning, Removed, Stop, Target};
use crate::error::{Error, Kind, Result};
use crate::process::Answer;
use crate::rt::{Call, Running};
use crate::state::{Event, State};
use tokio::sync::oneshot;

/// `rt delete` waits for ten seconds itself; poststop hooks may take their time.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the end of what `rt delete` has killed may take to be seen.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl Owner {
    /// See [`super::Pod::remove`].
    pub fn remove(&mut self, target: &Target, running: IfRunning, answer: Answer<Removed>) {
        let state = match self.process(target) {
            Ok(process) => process.state,
            Err(error) => return drop(answer.send(Err(error))),
        };
        if state == State::Creating {
            return self.remove_once_made(target, running, answer);
        }
        let runs = matches!(state, State::Starting | State::Running | State::Paused | State::Brief);
        if runs && running == IfRunning::Kill {
            return self.kill_and_remove(target, answer);
        }
        match self.step(target, Event::Remove) {
            Err(error) => drop(answer.send(Err(error.during(format!("remove {target}"))))),
            Ok(perform) => {
                if let Ok(process) = self.process(target) {
                    process.removers.push(answer);
                }
                if perform {
                    self.begin_remove(target);
                }
            }
        }
    }

    /// See [`super::Pod::let_go`]. What the shim had of it ends here: its place, its descriptors, and what watched over it.
    pub fn let_go(&mut self, target: &Target) -> Result<()> {
        let process = self.process(target)?;
        let (pid, alive) = (process.pid, process.alive);
        match process.state {
            State::Running | State::Paused | State::Stopped if target.exec.is_some() => {}
            state => {
                let why = format!("let go of {target}: it is {state:?}, and no exec that was started");
                return Err(Error::new(Kind::WrongStatus, why));
            }
        }
        if alive {
            self.children.disown(pid);
        }
        self.forget(target);
        Ok(())
    }

    /// `rt create` runs: what it makes is removed the moment that it is made, whether or not who asked still waits then. A containerd that
    /// comes back and knows nothing of the container asks only once.
    fn remove_once_made(&mut self, target: &Target, running: IfRunning, answer: Answer<Removed>) {
        let (made, birth) = oneshot::channel();
        match self.container(&target.container) {
            Ok(container) => container.creators.push(made),
            Err(error) => return drop(answer.send(Err(error))),
        }
        let (line, target) = (self.line.clone(), target.clone());
        tokio::spawn(async move {
            let _ = birth.await; // one that could not be made is not there: the removal says so
            line.send(move |owner| owner.remove(&target, running, answer));
        });
    }

    fn kill_and_remove(&mut self, target: &Target, answer: Answer<Removed>) {
        let (line, target) = (self.line.clone(), target.clone());
        let (killed, end) = oneshot::channel();
        match target.exec {
            None => {
                let stop =
                    Stop { id: target.container.clone(), signal: libc::SIGKILL, grace: Duration::ZERO };
                self.stop(&stop, killed);
            }
            Some(_) => {
                // With what it has started: who ran it has gone. One that has just ended needs none.
                let _ = self.kill_family(&target);
                match self.end_of(&target) {
                    Ok(ended) => drop(tokio::spawn(async move {
                        let ended = tokio::time::timeout(END_PATIENCE, ended).await;
                        let late = || Error::new(Kind::Timeout, "it survives SIGKILL");
                        let gone = |_| Error::not_found("it was removed");
                        let _ = killed.send(ended.map_err(|_| late()).and_then(|ended| ended.map_err(gone)));
                    })),
                    Err(error) => drop(killed.send(Err(error))),
                }
            }
        }
        tokio::spawn(async move {
            match end.await {
                Ok(Err(error)) => drop(answer.send(Err(error.during(format!("remove {target}"))))),
                _ => line.send(move |owner| owner.remove(&target, IfRunning::Refuse, answer)),
            }
        });
    }

    fn begin_remove(&mut self, target: &Target) {
        if target.exec.is_some() {
            return self.removed(target, Ok(()));
        }
        let (line, owned) = (self.line.clone(), target.clone());
        match self.delete(target) {
            Err(error) => self.removed(target, Err(error)),
            Ok(running) => drop(tokio::spawn(async move {
                let done = match running.done().await {
                    Err(error) if error.kind() == Kind::NotFound => Ok(()),
                    done => done,
                };
                line.send(move |owner| owner.deleted(&owned, done));
            })),
        }
    }

    fn delete(&mut self, target: &Target) -> Result<Running> {
        let container = self.container(&target.container)?;
        let choice = container.request.runtime.clone();
        let mut args = words(["delete"]);
        args.extend((container.process.state == State::Felling).then(|| "--force".into()));
        args.push(target.container.clone().into());
        let call = Call { choice: &choice, args, ends: [None, None, None], patience: PATIENCE };
        self.rt.call(&mut self.children, call)
    }

    /// What was killed by it is seen to end first.
    fn deleted(&mut self, target: &Target, done: Result<()>) {
        self.reap();
        let ended = self.process(target).is_ok_and(|process| process.ended.is_some());
        if ended || done.is_err() {
            return self.removed(target, done);
        }
        let Ok(end) = self.end_of(target) else { return };
        let (line, target) = (self.line.clone(), target.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(END_PATIENCE, end).await;
            line.send(move |owner| owner.removed(&target, Ok(())));
        });
    }

    fn removed(&mut self, target: &Target, done: Result<()>) {
        if done.is_ok()
            && target.exec.is_none()
            && let Some(container) = self.containers.get(&target.container)
        {
            self.no_root_filesystem(&container.request);
        }
        let Ok(process) = self.process(target) else { return };
        let removers = std::mem::take(&mut process.removers);
        let removed = process.removed();
        if let Some(streams) = &mut process.streams {
            streams.close();
        }
        let answer = done.map(|()| removed).map_err(|error| error.during(format!("remove {target}")));
        self.happened(target, if answer.is_ok() { Event::Deleted } else { Event::NotDeleted });
        for remover in removers {
            let _ = remover.send(answer.clone());
        }
    }

    /// See [`super::Pod::shutdown`].
    pub fn shutdown(&mut self, running: IfRunning, answer: Answer<()>) {
        if self.containers.is_empty() {
            crate::record::close(&self.options.dir);
            self.closed.send_replace(true);
            let _ = answer.send(Ok(()));
            return;
        }
        if running == IfRunning::Refuse {
            let what = format!("end the pod: it has {} containers", self.containers.len());
            return drop(answer.send(Err(Error::new(Kind::WrongStatus, what))));
        }
        let all: Vec<_> = self.containers.keys().map(Target::container).collect();
        let ends = all.into_iter().map(|target| {
            let (answer, end) = oneshot::channel();
            self.remove(&target, IfRunning::Kill, answer);
            end
        });
        let ends: Vec<_> = ends.collect();
        let line = self.line.clone();
        tokio::spawn(async move {
            for end in ends {
                if let Ok(Err(error)) = end.await
                    && error.kind() != Kind::NotFound
                {
                    return drop(answer.send(Err(error)));
                }
            }
            line.send(|owner| owner.shutdown(IfRunning::Refuse, answer));
        });
    }
}
