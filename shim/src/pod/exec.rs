//! Execs: one is added, and started later by `rt exec`.
//!
//! That `rt` is launched as soon as the exec is added, and waits at a gate, which the start opens. What it does until then, to come to
//! life above all, costs the start no time.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde_json::Value;
use tokio::task::AbortHandle;

use super::create::{Cradle, words};
use super::gate::{self, Gate};
use super::owner::Owner;
use super::start::PATIENCE;
use super::{Exec, ExecWhat, Stdio, Target};
use crate::error::{Context, Error, Kind, Result};
use crate::io;
use crate::process::{Execution, Process};
use crate::rt::{Call, Running};
use crate::state::{Event, State};

/// How long an `rt` waits for the start: who starts at all does so at once.
const AHEAD: Duration = Duration::from_secs(10);

/// How many wait in a pod at most.
const ALL_AHEAD: usize = 8;

/// How many execs a container has at most, until they are removed, and what those of a pod may ask for all in all.
const EXECS: usize = 1024;
const ASKED: usize = 64 << 20;

/// An `rt exec` that runs. Another runtime has no gate, and waits for nothing.
#[derive(Debug)]
struct Launched {
    running: Running,
    cradle: Cradle,
    streams: io::Held,
    gate: Option<Gate>,
}

/// An `rt exec` that waits for its start. Dropped: nothing is left of it.
#[derive(Debug)]
pub struct Ahead {
    launched: Option<Launched>,
    expiry: AbortHandle,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.expiry.abort();
        if let Some(launched) = self.launched.take() {
            launched.running.abandon();
        }
    }
}

impl Owner {
    /// See [`super::Pod::add_exec`].
    pub fn add_exec(&mut self, request: Exec) -> Result<()> {
        let target = request.target.clone();
        let Some(exec) = target.exec.clone() else {
            return Err(Error::invalid("add an exec: it needs an id"));
        };
        self.step(&Target::container(&target.container), Event::Exec)?;
        let asked: usize = self
            .containers
            .values()
            .flat_map(|container| container.execs.values())
            .map(|exec| exec.request.size())
            .sum();
        let container = self.container(&target.container)?;
        if container.execs.contains_key(&exec) {
            return Err(Error::new(Kind::Exists, format!("{target} exists already")));
        }
        if container.execs.len() >= EXECS || asked + request.size() > ASKED {
            let what = format!(
                "add {target}: {} execs were not removed, {asked} bytes ask for them",
                container.execs.len()
            );
            return Err(Error::os(libc::EUSERS, what));
        }
        let process = Process::new(request.stdio.clone());
        container.execs.insert(exec, Execution { request, process, ahead: None });
        self.happened(&target, Event::Create);
        self.happened(&target, Event::Made);
        Ok(())
    }

    /// Launches an added exec's `rt` when there is nothing else to do, the answer to who added it above all.
    pub(super) fn launch_ahead_soon(&self, target: &Target) {
        let (line, target) = (self.line.clone(), target.clone());
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            line.send(move |owner| owner.launch_ahead(&target));
        });
    }

    /// What goes wrong here is said by the start, which does it again.
    fn launch_ahead(&mut self, target: &Target) {
        if !self.may_go_ahead(target) {
            return;
        }
        let Ok(launched) = self.launch_exec(target) else { return };
        let (line, late) = (self.line.clone(), target.clone());
        let expiry = tokio::spawn(async move {
            tokio::time::sleep(AHEAD).await;
            line.send(move |owner| {
                if let Ok(execution) = owner.execution(&late) {
                    execution.ahead = None;
                }
            });
        });
        if let Ok(execution) = self.execution(target) {
            execution.ahead = Some(Ahead { launched: Some(launched), expiry: expiry.abort_handle() });
        }
    }

    /// Not other runtimes, which would not wait.
    fn may_go_ahead(&mut self, target: &Target) -> bool {
        let execs = self.containers.values().flat_map(|container| container.execs.values());
        let room = execs.filter(|execution| execution.ahead.is_some()).count() < ALL_AHEAD;
        let Ok(container) = self.container(&target.container) else { return false };
        let choice = container.request.runtime.clone();
        let waits = self
            .execution(target)
            .is_ok_and(|execution| execution.process.state == State::Created && execution.ahead.is_none());
        room && waits && !self.rt.is_other(&choice)
    }

    /// None also if it has died.
    fn ahead(&mut self, target: &Target) -> Option<Launched> {
        self.reap();
        let launched = self.execution(target).ok()?.ahead.take()?.launched.take()?;
        let running = launched.running.if_it_runs()?;
        Some(Launched { running, ..launched })
    }

    fn execution(&mut self, target: &Target) -> Result<&mut Execution> {
        let exec = target.exec.as_ref();
        let execs = &mut self.container(&target.container)?.execs;
        exec.and_then(|exec| execs.get_mut(exec))
            .ok_or_else(|| Error::not_found(format!("{target} does not exist")))
    }

    /// Its `rt` gets going, launched now or before.
    pub(super) fn start_exec(&mut self, target: &Target) -> Result<(Running, Cradle, Option<Gate>)> {
        let launched = match self.ahead(target) {
            Some(launched) => launched,
            None => self.launch_exec(target)?,
        };
        let Launched { running, cradle, streams, gate } = launched;
        self.process(target)?.streams = Some(streams);
        // ORDER: before it can bear anyone.
        self.children.birth_begins(&BTreeSet::new());
        if let Some(gate) = &gate {
            gate.open();
        }
        Ok((running, cradle, gate))
    }

    fn launch_exec(&mut self, target: &Target) -> Result<Launched> {
        let container = self.container(&target.container)?;
        let (choice, config) = (container.request.runtime.clone(), container.config.clone());
        let request = self.execution(target)?.request.clone();
        let terminal = request.stdio.has_terminal();
        let mut cradle = self.cradle(terminal)?;
        let other = self.rt.is_other(&choice);
        let mut args = words(["exec", "--detach"]);
        let gate = if other { None } else { Some(gate::pair()?) };
        if let Some((_, theirs)) = &gate {
            args.extend(["--gate".into(), gate::inherit(theirs)?.to_string().into()]);
            cradle.pid_file = None;
        }
        cradle.add_to(&mut args);
        let (mut command, mut owner, mut input) = (&[][..], config.user(), None);
        match &request.what {
            ExecWhat::Process(json) => {
                let process = process(json, &request.stdio)?;
                owner = config.user_of(&process);
                let file = memory_file(process.to_string().as_bytes()).what(|| "write it down for rt")?;
                args.extend(["--process".into(), format!("/proc/self/fd/{}", gate::inherit(&file)?).into()]);
                input = Some(file);
            }
            ExecWhat::Args(words) => {
                args.extend(terminal.then(|| "--tty".into()));
                command = words;
            }
        }
        args.push(target.container.clone().into());
        args.extend(command.iter().map(Into::into));
        let (ends, streams) = io::open(&request.stdio, Some(choice.stream_owner.unwrap_or(owner)))?;
        let call = Call { choice: &choice, args, ends, patience: PATIENCE };
        // ORDER: the ends that it inherits are closed here when it has them.
        let running = self.rt.call(&mut self.children, call)?;
        drop(input);
        Ok(Launched { running, cradle, streams, gate: gate.map(|(ours, _)| ours) })
    }

    pub(super) fn settle_exec(&mut self, target: &Target, pid: u32, cradle: &Cradle) -> Result<()> {
        let process = self.process(target)?;
        (process.pid, process.alive) = (pid, true);
        if let (Some(console), Some(streams)) = (&cradle.console, &mut process.streams) {
            streams.terminal(console.receive()?)?;
        }
        let exec = target.exec.clone().unwrap_or_default();
        let timeout =
            self.container(&target.container)?.execs.get(&exec).and_then(|exec| exec.request.timeout);
        if let Some(timeout) = timeout {
            let (line, target) = (self.line.clone(), target.clone());
            tokio::spawn(async move {
                tokio::time::sleep(timeout).await;
                line.send(move |owner| owner.timed_out(&target, pid));
            });
        }
        Ok(())
    }

    /// Another exec may have its id by now.
    fn timed_out(&mut self, target: &Target, pid: u32) {
        let Ok(process) = self.process(target) else { return };
        if process.alive && process.pid == pid {
            process.reason = super::TIMED_OUT.into();
            if let Err(error) = self.kill_family(target) {
                tracing::error!("end {target}, whose time is over: {error}");
            }
        }
    }
}

/// The process, with or without a terminal as its streams are.
fn process(json: &[u8], stdio: &Stdio) -> Result<Value> {
    let mut process: Value = serde_json::from_slice(json)
        .map_err(|error| Error::invalid(format!("read the process to execute: {error}")))?;
    match &mut process {
        Value::Object(fields) => fields.insert("terminal".into(), stdio.has_terminal().into()),
        _ => return Err(Error::invalid("read the process to execute: it is no JSON object")),
    };
    Ok(process)
}

/// Nobody else sees it, and it goes with the last who has it open.
fn memory_file(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("process", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}
