//! Limits, freezing, and who is in a container.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Target;
use super::create::{add, words};
use super::owner::Owner;
use crate::cgroup;
use crate::error::{Context, Result};
use crate::process::Answer;
use crate::rt::{Call, Running};
use crate::state::Event;

/// `rt pause` waits for ten seconds itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short-lived file of the shim's own.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Owner {
    /// See [`super::Pod::update`].
    pub fn update(&mut self, id: &str, resources: &[u8], answer: Answer<()>) {
        let file = Scratch(self.rt.scratch("resources"));
        let written = std::fs::write(&file.0, resources).what(|| format!("write {}", file.0.display()));
        let begun = written.and_then(|()| self.call_rt(id, Event::Update, "update", Some(&file.0)));
        self.answer_later(begun, format!("update container \"{id}\""), answer, move |_| drop(file));
    }

    /// See [`super::Pod::pause`].
    pub fn pause(&mut self, id: &str, answer: Answer<()>) {
        let begun = self.call_rt(id, Event::Pause, "pause", None);
        let target = Target::container(id);
        let frozen = move |owner: &mut Self| owner.happened(&target, Event::Frozen);
        self.answer_later(begun, format!("pause container \"{id}\""), answer, frozen);
    }

    /// See [`super::Pod::resume`].
    pub fn resume(&mut self, id: &str, answer: Answer<()>) {
        let begun = self.call_rt(id, Event::Resume, "resume", None);
        let target = Target::container(id);
        let thawed = move |owner: &mut Self| owner.happened(&target, Event::Thawed);
        self.answer_later(begun, format!("resume container \"{id}\""), answer, thawed);
    }

    /// See [`super::Pod::pids`].
    pub fn pids(&mut self, id: &str) -> Result<Vec<(u32, Option<String>)>> {
        let container = self.container(id)?;
        let pids = match &container.cgroup {
            Some(cgroup) => cgroup::pids(cgroup)?,
            None => Some(container.process.pid).filter(|_| container.process.alive).into_iter().collect(),
        };
        let exec_of = |pid: u32| {
            let mut execs = container.execs.iter();
            execs.find(|(_, exec)| exec.process.alive && exec.process.pid == pid).map(|(id, _)| id.clone())
        };
        Ok(pids.into_iter().map(|pid| (pid, exec_of(pid))).collect())
    }

    fn call_rt(
        &mut self,
        id: &str,
        event: Event,
        command: &str,
        resources: Option<&Path>,
    ) -> Result<Running> {
        self.step(&Target::container(id), event)?;
        let choice = self.container(id)?.request.runtime.clone();
        let mut args = words([command]);
        add(&mut args, "--resources", resources);
        args.push(id.into());
        let call = Call { choice: &choice, args, ends: [None, None, None], patience: PATIENCE };
        self.rt.call(&mut self.children, call)
    }

    fn answer_later(
        &mut self,
        begun: Result<Running>,
        what: String,
        answer: Answer<()>,
        then: impl FnOnce(&mut Self) + Send + 'static,
    ) {
        let line = self.line.clone();
        match begun {
            Err(error) => drop(answer.send(Err(error.during(what)))),
            Ok(running) => drop(tokio::spawn(async move {
                let done = running.done().await.map_err(|error| error.during(what));
                line.send(move |owner| {
                    if done.is_ok() {
                        then(owner);
                    }
                    let _ = answer.send(done);
                });
            })),
        }
    }
}
