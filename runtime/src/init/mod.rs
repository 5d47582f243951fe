//! Our child before execve: from birth in its namespaces to the user's program, one line per step.
//!
//! It has no log but the link, and relies on no Drop: it ends in execve or `_exit`. It does not know which command made it.
//!
//! Before the first name is followed that the container may have chosen (working directory, program, passwd, terminal), [`shut`] closes
//! all that is of the host: no link of /proc leads out then, whatever it is called. Where others can see the container's processes, those
//! steps are taken outside of their PID namespace, and the process that goes on in there is cloned last of all, with the root, the
//! rights, the user and the system call filter that it will have ([`seal`]). Its executable is a copy (`ops/sealed.rs`).

mod capabilities;
mod copy_up;
mod devices;
mod executable;
mod hostname;
mod interpreter;
mod kept;
mod labels;
mod landing;
mod limits;
mod mask;
mod mounts;
mod namespaces;
mod proc;
mod root;
mod seal;
mod session;
mod sibling;
mod target;
mod terminal;
mod user;
mod waiting;

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::link::{Link, Message};
use crate::parent::prepare::Prepared;
use crate::plan::{Surroundings, Task};
use crate::spec::Hooks;
use crate::step::{Step, reach};
use crate::sys::clone::Alone;
use crate::sys::start::forget_arguments_and_environment;
pub use limits::{affinity, scheduler};
pub use namespaces::{Door, When};
pub use sibling::sibling;
use terminal::Console;
pub use user::leave_groups;

/// What init is born with.
#[derive(Debug)]
pub struct Birth<'a> {
    /// What to do.
    pub task: &'a Task,
    /// The surroundings to make; none for a process that finds them made.
    pub home: Option<Home<'a>>,
    /// The root to enter, where joining namespaces does not lead there: the container's mount namespace is others' too.
    pub root: Option<&'a OwnedFd>,
    /// Namespaces to join, in order.
    pub joined: &'a [Door],
    /// To the parent.
    pub link: Link,
    /// Whether the parent has something to do before the first step, and says Go then.
    pub awaits_go: bool,
    /// Whether others live in its PID namespace: it is born into that last of all.
    pub seen: bool,
    /// Where to wait after Ready: the FIFO, or the link.
    pub start: Start<'a>,
    /// The mask that the user's program gets: as it was before the runtime blocked anything.
    pub signals: nix::sys::signal::SigSet,
}

/// What the container's first process makes for all of them.
#[derive(Debug)]
pub struct Home<'a> {
    /// Root, mounts, devices.
    pub around: &'a Surroundings,
    /// Detached mounts.
    pub prepared: &'a Prepared,
    /// Those that run on the way.
    pub hooks: &'a Hooks,
    /// Whether the parent runs the createContainer hooks: see [`crate::parent::neighbour_hooks`].
    pub hooks_beside: bool,
    /// What they get on standard input.
    pub state: &'a [u8],
    /// The same for those that run at the start.
    pub start_state: &'a [u8],
}

/// How init learns that it may execute.
#[derive(Debug)]
pub enum Start<'a> {
    /// `start` writes to the FIFO, and reads there what goes wrong.
    Fifo(&'a OwnedFd),
    /// The parent says Start, perhaps before it has heard Ready.
    Link,
    /// The parent has said Start and waits for nothing but the execution: Ready is not said. Without a terminal.
    Straight,
}

/// Runs all steps.
pub fn run(birth: &Birth<'_>) -> ! {
    let mut step = Step::Go;
    let error = match steps(birth, &mut step) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    tell(birth, step, error);
    crate::sys::process::exit_now(1)
}

/// Whoever made this container hears of it, or whoever starts it. If they are gone, so is whoever wanted to know.
fn tell(birth: &Birth<'_>, step: Step, error: Error) {
    let failure = Message::Failed(step as u8, error);
    let _ = match birth.start {
        Start::Fifo(fifo) if step as u8 > Step::Ready as u8 => {
            rustix::io::write(fifo, &failure.encode()).is_ok()
        }
        _ => birth.link.send(&failure).is_ok(),
    };
}

fn steps(birth: &Birth<'_>, at: &mut Step) -> Result<Infallible> {
    let task = birth.task;
    take(at, Step::Go)?;
    if birth.awaits_go {
        expect(&birth.link, |m| matches!(m, Message::Go))?;
    }
    take(at, Step::Join)?;
    if birth.home.is_none() {
        // ORDER: while /proc is the host's.
        labels::set(task)?;
        // ORDER: before the user namespace is joined.
        user::leave_groups(task)?;
    }
    namespaces::late(task)?;
    namespaces::join(birth.joined, When::First)?;
    take(at, Step::Root)?;
    user::become_root(task)?;
    take(at, Step::Session)?;
    session::new(task)?;
    let terminal = match &birth.home {
        Some(home) => make_home(birth, home, at)?,
        None => enter_home(birth, at)?,
    };
    take(at, Step::Limits)?;
    limits::set(task, birth.seen)?;
    take(at, Step::User)?;
    let cwd = user::enter_cwd(task)?;
    let environment = user::environment(task)?;
    user::change(task)?;
    take(at, Step::Executable)?;
    user::settle_cwd(task, cwd)?;
    let program = executable::find(task, environment, birth.seen)?;
    take(at, Step::Filter)?;
    let waits = matches!(birth.start, Start::Fifo(_));
    executable::settle(task.process.pass_fds)?;
    if !waits {
        executable::settle_mask(birth.signals)?;
    }
    if !birth.seen {
        terminal::take(task)?;
    }
    // ORDER: before it is born where others can take it: the multiplexer is one with the parent's, flags and bytes.
    let terminal = match terminal {
        Some(terminal) if birth.seen => {
            birth.link.send(&Message::Terminal(terminal))?;
            // ORDER: the parent takes no more descriptors by then.
            expect(&birth.link, |m| matches!(m, Message::Go))?;
            None
        }
        terminal => terminal,
    };
    let alone = birth.seen.then(Alone::seen).transpose().what(|| "look for threads")?;
    // ORDER: what comes between this and execve is listed there.
    let mut sealed = seal::early(birth)?;
    take(at, Step::Birth)?;
    if let Some(alone) = &alone {
        sibling::last(alone, &birth.link)?;
        session::lead()?;
        limits::settle(task)?;
        terminal::take(task)?;
    }
    take(at, Step::Ready)?;
    if waits {
        waiting::hold_signals()?;
    }
    if !matches!(birth.start, Start::Straight) {
        birth.link.send(&Message::Ready(terminal))?;
    }
    take(at, Step::Start)?;
    match birth.start {
        Start::Link | Start::Straight => expect(&birth.link, |message| matches!(message, Message::Start))?,
        Start::Fifo(fifo) => waiting::at_fifo(fifo, &birth.link)?,
    }
    take(at, Step::StartHooks)?;
    if let (Some(home), hooks @ [_, ..]) = (&birth.home, seal::start_hooks(birth)) {
        if !sealed {
            seal::last(task)?;
            sealed = true;
        }
        hooks::run_all("startContainer", hooks, home.start_state)
            .map_err(|error| seal::explained(error, task))?;
    }
    take(at, Step::Seccomp)?;
    if let Start::Fifo(fifo) = birth.start {
        waiting::take_word(fifo)?;
    }
    if waits {
        executable::settle_mask(birth.signals)?;
    }
    if !sealed {
        seal::last(task)?;
    }
    take(at, Step::Exec)?;
    program.execute()
}

fn take(at: &mut Step, step: Step) -> Result<()> {
    *at = step;
    reach(step)
}

/// Closes all but the standard streams, what is passed on, the ways to the parent and to `start`, and what is still needed.
fn shut<'a>(birth: &'a Birth<'_>, needed: impl Iterator<Item = &'a OwnedFd>) -> Result<()> {
    let fifo = if let Start::Fifo(fifo) = birth.start { Some(fifo) } else { None };
    let keep: Vec<_> = fifo.into_iter().chain(needed).map(AsFd::as_fd).chain([birth.link.as_fd()]).collect();
    crate::sys::process::close_all_but(3 + birth.task.process.pass_fds, &keep)
        .what(|| "close what is not the container's")
}

/// The container's first process makes what all will find. Gives the parent's end of the terminal.
fn make_home(birth: &Birth<'_>, home: &Home<'_>, at: &mut Step) -> Result<Option<OwnedFd>> {
    let (task, around, prepared) = (birth.task, home.around, home.prepared);
    take(at, Step::Loopback)?;
    namespaces::loopback_up(task)?;
    take(at, Step::Rootfs)?;
    let root = root::attach(around, prepared)?;
    take(at, Step::Mounts)?;
    let kept = mounts::make_all(around, prepared, &root)?;
    take(at, Step::Devices)?;
    devices::make_all(around, prepared, &root)?;
    // ORDER: before anything is opened that the container chose: a node of its image is a device of the host's without the rules.
    expect(&birth.link, |m| matches!(m, Message::Limited))?;
    if !(home.hooks.prestart.is_empty() && home.hooks.create_runtime.is_empty()) {
        birth.link.send(&Message::AtHooks)?;
        expect(&birth.link, |m| matches!(m, Message::HooksDone))?;
    }
    take(at, Step::ContainerHooks)?;
    if home.hooks_beside {
        birth.link.send(&Message::AtHooks)?;
        expect(&birth.link, |m| matches!(m, Message::HooksDone))?;
    } else {
        hooks::run_all("createContainer", &home.hooks.create_container, home.state)?;
    }
    // ORDER: who is born from here on is born where others live, the rights to go there are still here.
    namespaces::join(birth.joined, When::AfterHooks)?;
    // ORDER: after the hooks, which may bring the network device that a parameter is of; while /proc is the host's.
    take(at, Step::Sysctl)?;
    hostname::set(around)?;
    proc::set_sysctl(&around.sysctl)?;
    take(at, Step::Labels)?;
    labels::set(task)?;
    take(at, Step::Pivot)?;
    root::change(around, &root)?;
    target::spent(root);
    take(at, Step::Shut)?;
    forget_arguments_and_environment();
    shut(birth, prepared.null.iter().chain(kept.handles()))?;
    take(at, Step::Terminal)?;
    let root = target::root()?;
    let console = if prepared.root.is_some() { Console::Bind } else { Console::Leave };
    let terminal = terminal::open(task, &root, console)?;
    take(at, Step::Mask)?;
    mask::all(around, prepared, (&root, &kept))?;
    root::finish(around, prepared, &root)?;
    // What was covered has handles, too.
    target::spent(root);
    drop(kept);
    shut(birth, terminal.iter())?;
    Ok(terminal)
}

/// A later process finds all of it made.
fn enter_home(birth: &Birth<'_>, at: &mut Step) -> Result<Option<OwnedFd>> {
    birth.root.map_or(Ok(()), root::enter)?;
    take(at, Step::Shut)?;
    forget_arguments_and_environment();
    shut(birth, std::iter::empty())?;
    take(at, Step::Terminal)?;
    terminal::open(birth.task, &target::root()?, Console::Leave)
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
