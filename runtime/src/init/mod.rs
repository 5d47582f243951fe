//! Our child before execve: from birth in its namespaces to the user's program, one line per step.
//!
//! It has no log but the link, and relies on no Drop: it ends in execve or `_exit`. It does not know which command made it.

mod capabilities;
mod copy_up;
mod devices;
mod executable;
mod hostname;
mod labels;
mod limits;
mod mask;
mod mounts;
mod namespaces;
mod proc;
mod root;
mod session;
mod target;
mod terminal;
mod user;

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use crate::error::{Context, Error, Kind, Result};
use crate::link::{Link, Message};
use crate::parent::prepare::Prepared;
use crate::plan::Plan;
use crate::step::{Step, reach};
use proc::HostProc;

/// What init is born with.
#[derive(Debug)]
pub struct Birth<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Detached mounts.
    pub prepared: &'a Prepared,
    /// Namespaces to join, in order.
    pub joined: &'a [OwnedFd],
    /// To the parent.
    pub link: Link,
    /// Where to wait after Ready: the FIFO, or the link.
    pub start: Start<'a>,
    /// What hooks in the container get on standard input.
    pub hook_state: &'a [u8],
    /// The mask that the user's program gets: as it was before the runtime blocked anything.
    pub signals: nix::sys::signal::SigSet,
}

/// How init learns that it may execute.
#[derive(Debug)]
pub enum Start<'a> {
    /// `start` writes to the FIFO.
    Fifo(&'a OwnedFd),
    /// The parent says Start.
    Link,
}

/// Runs all steps.
pub fn run(birth: &Birth<'_>) -> ! {
    let mut step = Step::Go;
    let error = match steps(birth, &mut step) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if birth.link.send(&Message::Failed(step as u8, error)).is_err() {
        // The parent is gone; so is whoever wanted to know.
    }
    crate::sys::process::exit_now(1)
}

fn steps(birth: &Birth<'_>, at: &mut Step) -> Result<Infallible> {
    let (plan, around) = (birth.plan, &birth.plan.surroundings);
    let mut take = |step: Step| {
        *at = step;
        reach(step)
    };
    take(Step::Go)?;
    expect(&birth.link, |m| matches!(m, Message::Go))?;
    take(Step::Join)?;
    let proc = HostProc::open()?;
    namespaces::join(birth.joined)?;
    take(Step::Root)?;
    user::become_root(plan)?;
    take(Step::Session)?;
    session::new(plan)?;
    take(Step::Loopback)?;
    namespaces::loopback_up(plan)?;
    take(Step::Rootfs)?;
    let root = root::attach(plan, birth.prepared)?;
    take(Step::Mounts)?;
    mounts::make_all(plan, birth.prepared, &root)?;
    take(Step::Devices)?;
    devices::make_all(around, birth.prepared, &root)?;
    if plan.has_runtime_hooks() {
        birth.link.send(&Message::AtHooks)?;
        expect(&birth.link, |m| matches!(m, Message::HooksDone))?;
    }
    take(Step::ContainerHooks)?;
    crate::hooks::run_all("createContainer", &plan.hooks.create_container, birth.hook_state)?;
    take(Step::Pivot)?;
    root::change(plan, &root)?;
    take(Step::Terminal)?;
    let terminal = terminal::open(plan, &root)?;
    take(Step::Sysctl)?;
    hostname::set(around)?;
    proc.set_sysctl(&around.sysctl)?;
    take(Step::Mask)?;
    mask::all(around, birth.prepared, &root)?;
    root::finish(plan, &root)?;
    take(Step::Limits)?;
    limits::set(plan)?;
    take(Step::Labels)?;
    labels::set(plan, &proc)?;
    take(Step::User)?;
    user::enter_cwd(plan, &root)?;
    let environment = user::environment(plan, &root)?;
    user::change(plan)?;
    take(Step::Executable)?;
    user::check_cwd(plan)?;
    let program = executable::find(plan, environment)?;
    take(Step::Ready)?;
    birth.link.send(&Message::Ready(terminal))?;
    take(Step::Start)?;
    wait_for_start(birth)?;
    take(Step::StartHooks)?;
    crate::hooks::run_all("startContainer", &plan.hooks.start_container, birth.hook_state)?;
    take(Step::Seccomp)?;
    capabilities::seal(plan)?;
    take(Step::Exec)?;
    program.execute(plan.process.pass_fds, birth.signals)
}

fn expect(link: &Link, wanted: fn(&Message) -> bool) -> Result<()> {
    match link.receive()? {
        Some(message) if wanted(&message) => Ok(()),
        Some(other) => {
            Err(Error::new(Kind::Internal, format!("unexpected message from the parent: {other:?}")))
        }
        // ORDER: whoever made this container is gone before it was done; nobody will ever want it.
        None => crate::sys::process::exit_now(1),
    }
}

fn wait_for_start(birth: &Birth<'_>) -> Result<()> {
    match birth.start {
        Start::Link => expect(&birth.link, |m| matches!(m, Message::Start)),
        Start::Fifo(fifo) => {
            // A FIFO that was never opened for writing does not hang up, so this waits for `start` however long.
            let mut ready = [rustix::event::PollFd::new(fifo, rustix::event::PollFlags::IN)];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut ready, None))
                .what(|| "wait at the start FIFO")?;
            Ok(())
        }
    }
}
