//! The parent's side of a birth: what init needs from outside, what is done while it makes the mounts, and what both tell each other.
//!
//! It makes neither init nor anything that init inherits.

use std::os::fd::OwnedFd;

use crate::child::{Child, died};
use crate::error::{Error, Kind, Result};
use crate::hooks;
use crate::init;
use crate::link::{Message, step_name};
use crate::parent::cgroup::{Berth, Cgroup};
use crate::parent::{neighbour_hooks, place};
use crate::plan::namespaces::Kind as Namespace;
use crate::plan::seccomp::{self, Filter};
use crate::plan::{Plan, Task};
use crate::state::{NamespaceId, ProcessId, Record, Reserved, SECCOMP, Status};
use crate::step::{Step, reach};
use crate::sys::terminal::is_multiplexer;

/// Whether init stops at Ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Until it is told to start: somebody must hear of the container, or get its terminal, before the program runs.
    Halting,
    /// No: Start is said in advance.
    Straight,
}

/// The parent's side, from birth to Ready. What init does not wait for is done while it makes the mounts.
pub fn bring_up(
    plan: &Plan,
    child: &mut Child,
    (reserved, record, berth): (&Reserved, &mut Record, &mut Berth<'_>),
    pace: Pace,
) -> Result<Option<OwnedFd>> {
    let go = awaits_go(plan, berth);
    berth.adopt(child.pid.as_raw())?;
    record.cgroup = berth.record(record.cgroup.take().and_then(|cgroup| cgroup.resources));
    if let Some(maps) = &plan.idmap {
        place::id_maps(child.pid, maps)?;
    }
    if plan.task.namespaces.has(Namespace::User) {
        // Where it can't be looked at, later commands ask what is above it.
        record.user_namespace = NamespaceId::user_of(&child.pid.to_string()).ok();
    }
    if let Some(score) = plan.task.process.oom_score_adj {
        place::oom_score(child.pid, score)?;
    }
    reach(Step::Place)?;
    if go {
        say(child, &Message::Go)?;
    }
    berth.limit()?;
    say(child, &Message::Limited)?;
    reach(Step::Resources)?;
    if let Some(filter) = &plan.task.seccomp {
        reserved.write_file(SECCOMP, &stored_filter(filter))?;
    }
    if plan.has_runtime_hooks() {
        expect(child, |message| matches!(message, Message::AtHooks).then_some(()))?;
        let state = record.hook_state(Status::Creating);
        hooks::run_all("prestart", &plan.hooks.prestart, &state)?;
        hooks::run_all("createRuntime", &plan.hooks.create_runtime, &state)?;
        reach(Step::RuntimeHooks)?;
        child.link.send(&Message::HooksDone)?;
    }
    if neighbour_hooks::has_any(plan) {
        expect(child, |message| matches!(message, Message::AtHooks).then_some(()))?;
        let state = record.hook_state(Status::Creating);
        neighbour_hooks::run_all(plan, child, berth.cgroup().map(Cgroup::fd), &state)?;
        child.link.send(&Message::HooksDone)?;
    }
    if child.born()? {
        init::scheduler(&plan.task, child.pid.as_raw())?;
        record.init = Some(ProcessId::of(child.pid.as_raw())?);
    }
    if pace == Pace::Straight {
        // ORDER: written down before the program can run, limited before, too.
        reserved.commit(record)?;
        say(child, &Message::Start)?;
    }
    ready(child, &plan.task)
}

/// Waits for Ready; gives the terminal's multiplexer, if the plan asks for one. Who says so may have been traced by somebody in the
/// container, so what comes is looked at: nothing else is ever relayed or handed to a caller.
pub fn ready(child: &mut Child, task: &Task) -> Result<Option<OwnedFd>> {
    let terminal = expect(child, |message| match message {
        Message::Ready(terminal) => Some(terminal),
        _ => None,
    })?;
    child.link.refuse_descriptors()?;
    let terminal = terminal.or(child.terminal.take());
    let fits = match &terminal {
        Some(terminal) => task.process.terminal.is_some() && is_multiplexer(terminal),
        None => task.process.terminal.is_none(),
    };
    if fits { Ok(terminal) } else { Err(Error::new(Kind::Denied, "what init sent is not the terminal")) }
}

/// Sends. Who has hung up already may have said why.
pub fn say(child: &mut Child, message: &Message) -> Result<()> {
    match child.link.send(message) {
        Err(_) => expect(child, |_| None),
        sent => sent,
    }
}

/// Whether something must be done to init from outside before it can begin; see [`bring_up`].
pub fn awaits_go(plan: &Plan, berth: &Berth<'_>) -> bool {
    let user = plan.task.namespaces.has(Namespace::User);
    user || plan.task.process.oom_score_adj.is_some() || berth.needs_process()
}

/// Flags, then the program: what `exec` loads without compiling the profile again.
fn stored_filter(filter: &Filter) -> Vec<u8> {
    [&filter.flags.to_le_bytes()[..], &seccomp::to_bytes(&filter.program)].concat()
}

/// The next message, or why there is none.
fn expect<T>(child: &mut Child, wanted: impl FnOnce(Message) -> Option<T>) -> Result<T> {
    match child.receive()? {
        Some(Message::Failed(step, error)) => {
            tracing::debug!("init failed at step {}", step_name(step));
            Err(error)
        }
        Some(message) => {
            wanted(message).ok_or_else(|| Error::new(Kind::Internal, "init said something unexpected"))
        }
        None => Err(died()),
    }
}

/// Start, unless it was said in advance; then either silence (execve closed the link) or the reason why not.
pub fn go(child: &mut Child, pace: Pace) -> Result<()> {
    if pace == Pace::Halting {
        child.link.send(&Message::Start)?;
    }
    match child.receive()? {
        None => Ok(()),
        Some(Message::Failed(_, error)) => Err(error),
        Some(_) => Err(Error::new(Kind::Internal, "init said something unexpected")),
    }
}
