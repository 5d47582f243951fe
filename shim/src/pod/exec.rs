//! Execs: one is added, and started later by `rt exec`.
//!
//! That `rt` is launched as soon as the exec is added: it reads the process to execute from a pipe, which the start fills. What it
//! does until it reads, to come to life above all, costs the start no time.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::create::{Cradle, add, words};
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

/// A process of more bytes is handed over in a file: it might not fit into a pipe that nobody reads.
const IN_PIPE: usize = 32 << 10;

/// How long a launched `rt` has to wait before it executes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Now,
    Start,
}

/// An `rt exec` that runs.
#[derive(Debug)]
struct Launched {
    running: Running,
    cradle: Cradle,
    streams: io::Held,
    gate: Option<Gate>,
}

/// What it waits for: the process to execute, and the pipe that it reads it from.
#[derive(Debug)]
struct Gate {
    pipe: OwnedFd,
    process: String,
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
        let container = self.container(&target.container)?;
        if container.execs.contains_key(&exec) {
            return Err(Error::new(Kind::Exists, format!("{target} exists already")));
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
        let Ok(launched) = self.launch_exec(target, Until::Start) else { return };
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

    /// Other runtimes are started when they are needed, terminals come from `rt` at once.
    fn may_go_ahead(&mut self, target: &Target) -> bool {
        let execs = self.containers.values().flat_map(|container| container.execs.values());
        let room = execs.filter(|execution| execution.ahead.is_some()).count() < ALL_AHEAD;
        let Ok(container) = self.container(&target.container) else { return false };
        let choice = container.request.runtime.clone();
        let fits = self.execution(target).is_ok_and(|execution| {
            let request = &execution.request;
            execution.process.state == State::Created
                && execution.ahead.is_none()
                && matches!(&request.what, ExecWhat::Process(json) if json.len() <= IN_PIPE)
                && !request.stdio.has_terminal()
        });
        room && fits && !self.rt.is_other(&choice)
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
    pub(super) fn start_exec(&mut self, target: &Target) -> Result<(Running, Cradle)> {
        let launched = match self.ahead(target) {
            Some(launched) => launched,
            None => self.launch_exec(target, Until::Now)?,
        };
        let Launched { running, cradle, streams, gate } = launched;
        self.process(target)?.streams = Some(streams);
        // ORDER: before it can bear anyone.
        self.children.birth_begins();
        if let Some(Gate { pipe, process }) = gate {
            // One that has died before it has read says so by its end.
            let _ = rustix::io::write(&pipe, process.as_bytes());
        }
        Ok((running, cradle))
    }

    fn launch_exec(&mut self, target: &Target, waits: Until) -> Result<Launched> {
        let container = self.container(&target.container)?;
        let (choice, config) = (container.request.runtime.clone(), container.config.clone());
        let request = self.execution(target)?.request.clone();
        let terminal = request.stdio.has_terminal();
        let mut cradle = self.cradle(terminal)?;
        let mut args = words(["exec", "--detach"]);
        cradle.add_to(&mut args);
        let (mut command, mut owner, mut input) = (&[][..], config.user(), None);
        match &request.what {
            ExecWhat::Process(json) => {
                let process = process(json, &request.stdio)?;
                owner = config.user_of(&process);
                let process = process.to_string();
                let read = if process.len() <= IN_PIPE && !self.rt.is_other(&choice) {
                    let (path, end, gate) = gate(process)?;
                    input = Some((end, gate));
                    path
                } else if waits == Until::Start {
                    return Err(Error::unsupported("have an exec wait whose process is not in a pipe"));
                } else {
                    let path = self.rt.scratch("process");
                    std::fs::write(&path, process).what(|| format!("write {}", path.display()))?;
                    cradle.input = Some(path.clone());
                    path
                };
                add(&mut args, "--process", Some(&read));
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
        let running = self.rt.call(&mut self.children, call)?;
        Ok(Launched { running, cradle, streams, gate: input.map(|(_, gate)| gate) })
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

/// A pipe for this process: its name for who inherits its read end, that end, and what fills it.
fn gate(process: String) -> Result<(PathBuf, OwnedFd, Gate)> {
    let (read, pipe) = pipe_with(PipeFlags::CLOEXEC).what(|| "make a pipe")?;
    rustix::io::fcntl_setfd(&read, FdFlags::empty()).what(|| "let rt inherit a pipe")?;
    Ok((format!("/proc/self/fd/{}", read.as_raw_fd()).into(), read, Gate { pipe, process }))
}
