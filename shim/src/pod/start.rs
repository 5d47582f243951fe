//! Starting: a created container by `rt start`, an exec by `rt exec`.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use super::create::{Cradle, words};
use super::gate::Gate;
use super::owner::Owner;
use super::{Reach, Started, Stdio, StreamName, Target, tokens};
use crate::error::Result;
use crate::process::Answer;
use crate::rt::{Call, Running};
use crate::state::Event;

/// Hooks may take their time.
pub(super) const PATIENCE: Duration = Duration::from_secs(240);

/// Tells when the process executes: with its pid if `rt` said so at its gate, else by `rt`'s end, which is seen anyway.
async fn attend(running: Running, gate: Option<Gate>, tell: impl FnOnce(Result<Option<u32>>)) {
    let mut end = pin!(running.done());
    let Some(gate) = gate else { return tell(end.await.map(|()| None)) };
    tokio::select! {
        biased;
        Some(pid) = gate.passed() => {
            tell(Ok(Some(pid)));
            let _ = end.await;
        }
        ended = &mut end => tell(ended.map(|()| gate.said().ok().flatten())),
    }
}

impl Owner {
    /// See [`super::Pod::start`].
    pub fn start(&mut self, target: &Target, answer: Answer<Started>) {
        let what = format!("start {target}");
        if let Err(error) = self.step(target, Event::Start) {
            return drop(answer.send(Err(error.during(what))));
        }
        let begun = match target.exec {
            None => self.start_container(target).map(|running| (running, None, None)),
            Some(_) => self.start_exec(target).map(|(running, cradle, gate)| (running, Some(cradle), gate)),
        };
        let (line, target) = (self.line.clone(), target.clone());
        match begun {
            Err(error) => {
                self.happened(&target, Event::NotExecuted);
                let _ = answer.send(Err(error.during(what)));
            }
            Ok((running, cradle, gate)) => drop(tokio::spawn(attend(running, gate, move |done| {
                line.send(move |owner| {
                    let _ =
                        answer.send(owner.started(&target, done, cradle).map_err(|error| error.during(what)));
                });
            }))),
        }
    }

    fn start_container(&mut self, target: &Target) -> Result<Running> {
        let choice = self.container(&target.container)?.request.runtime.clone();
        let mut args = words(["start"]);
        args.push(target.container.clone().into());
        let call = Call { choice: &choice, args, ends: [None, None, None], patience: PATIENCE };
        self.rt.call(&mut self.children, call)
    }

    fn started(
        &mut self,
        target: &Target,
        done: Result<Option<u32>>,
        cradle: Option<Cradle>,
    ) -> Result<Started> {
        let done = match &cradle {
            None => done.map(drop),
            Some(cradle) => {
                let born = done.and_then(|pid| pid.map_or_else(|| cradle.pid(), Ok));
                let child = born.as_ref().ok().map(|pid| (*pid, target.clone()));
                self.children.birth_over(child, &BTreeSet::new());
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
}
