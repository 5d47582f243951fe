//! Starting: a created container by `rt start`, an exec by `rt exec`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::bundle;
use super::create::{Cradle, add, words};
use super::owner::Owner;
use super::{Exec, ExecWhat, Reach, Started, Stdio, StreamName, Target, tokens};
use crate::error::{Context, Error, Kind, Result};
use crate::io;
use crate::process::{Answer, Execution, Process};
use crate::rt::{Call, Running};
use crate::state::Event;

/// Hooks may take their time.
const PATIENCE: Duration = Duration::from_secs(240);

impl Owner {
    /// See [`super::Pod::start`].
    pub fn start(&mut self, target: &Target, answer: Answer<Started>) {
        let what = format!("start {target}");
        if let Err(error) = self.step(target, Event::Start) {
            return drop(answer.send(Err(error.during(what))));
        }
        let begun = match target.exec {
            None => self.start_container(target).map(|running| (running, None)),
            Some(_) => self.start_exec(target).map(|(running, cradle)| (running, Some(cradle))),
        };
        let (line, target) = (self.line.clone(), target.clone());
        match begun {
            Err(error) => {
                self.happened(&target, Event::NotExecuted);
                let _ = answer.send(Err(error.during(what)));
            }
            Ok((running, cradle)) => drop(tokio::spawn(async move {
                let done = running.done().await;
                line.send(move |owner| {
                    let _ =
                        answer.send(owner.started(&target, done, cradle).map_err(|error| error.during(what)));
                });
            })),
        }
    }

    fn start_container(&mut self, target: &Target) -> Result<Running> {
        let choice = self.container(&target.container)?.request.runtime.clone();
        let mut args = words(["start"]);
        args.push(target.container.clone().into());
        let call = Call { choice: &choice, args, ends: [None, None, None], patience: PATIENCE };
        self.rt.call(&mut self.children, call)
    }

    fn started(&mut self, target: &Target, done: Result<()>, cradle: Option<Cradle>) -> Result<Started> {
        let done = match &cradle {
            None => done,
            Some(cradle) => {
                let born = done.and_then(|()| cradle.pid());
                self.children.birth_over(born.as_ref().ok().map(|pid| (*pid, target.clone())));
                born.and_then(|pid| self.settle_exec(target, pid, cradle))
            }
        };
        let cradled = cradle.is_some();
        drop(cradle);
        let started = match done {
            Ok(()) => self.executed(target),
            Err(error) => {
                if target.exec.is_some() && self.process(target).is_ok_and(|process| process.alive) {
                    let _ = self.signal(target, libc::SIGKILL, Reach::One); // it runs without its terminal
                }
                self.happened(target, Event::NotExecuted);
                if cradled && let Ok(process) = self.process(target) {
                    process.streams = None; // a reader of its pipes would wait for ever; another start opens them anew
                }
                Err(error)
            }
        };
        self.reap();
        started
    }

    fn executed(&mut self, target: &Target) -> Result<Started> {
        let at = SystemTime::now();
        let process = self.process(target)?;
        process.started_at = Some(at);
        let pid = process.pid;
        let promised = match &process.stdio {
            Stdio::Streams(streams) => {
                let terminal = streams.terminal.is_some();
                tokens::names([
                    (streams.stdin, StreamName::Stdin),
                    (streams.stdout || terminal, StreamName::Stdout),
                    (streams.stderr && !terminal, StreamName::Stderr),
                ])
            }
            _ => Vec::new(),
        };
        self.happened(target, Event::Executed);
        let token = if promised.is_empty() { String::new() } else { self.promise(target, promised)? };
        Ok(Started { pid, at, token })
    }

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
        container.execs.insert(exec, Execution { request, process });
        self.happened(&target, Event::Create);
        self.happened(&target, Event::Made);
        Ok(())
    }

    fn start_exec(&mut self, target: &Target) -> Result<(Running, Cradle)> {
        let container = self.container(&target.container)?;
        let (choice, config) = (container.request.runtime.clone(), container.config.clone());
        let execution = target.exec.as_ref().and_then(|exec| container.execs.get(exec));
        let Some(Execution { request, .. }) = execution else {
            return Err(Error::not_found(format!("{target} does not exist")));
        };
        let request = request.clone();
        let terminal = request.stdio.has_terminal();
        let mut cradle = self.cradle(terminal)?;
        let mut args = words(["exec", "--detach"]);
        cradle.add_to(&mut args);
        let (command, owner) = match &request.what {
            ExecWhat::Process(json) => {
                let path = self.rt.scratch("process");
                let owner = write_process(&path, json, &request.stdio, &config)?;
                add(&mut args, "--process", Some(&path));
                cradle.input = Some(path);
                (&[][..], owner)
            }
            ExecWhat::Args(command) => {
                args.extend(terminal.then(|| "--tty".into()));
                (&command[..], config.user())
            }
        };
        args.push(target.container.clone().into());
        args.extend(command.iter().map(Into::into));
        let (ends, streams) = io::open(&request.stdio, Some(choice.stream_owner.unwrap_or(owner)))?;
        self.process(target)?.streams = Some(streams);
        let running =
            self.rt.call(&mut self.children, Call { choice: &choice, args, ends, patience: PATIENCE })?;
        self.children.birth_begins();
        Ok((running, cradle))
    }

    fn settle_exec(&mut self, target: &Target, pid: u32, cradle: &Cradle) -> Result<()> {
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

/// The process, with or without a terminal as its streams are. Gives its user as the host sees it.
fn write_process(path: &Path, json: &[u8], stdio: &Stdio, config: &bundle::Config) -> Result<(u32, u32)> {
    let mut process: Value = serde_json::from_slice(json)
        .map_err(|error| Error::invalid(format!("read the process to execute: {error}")))?;
    match &mut process {
        Value::Object(fields) => fields.insert("terminal".into(), stdio.has_terminal().into()),
        _ => return Err(Error::invalid("read the process to execute: it is no JSON object")),
    };
    std::fs::write(path, process.to_string()).what(|| format!("write {}", path.display()))?;
    Ok(config.user_of(&process))
}
