//! `start`: lets the container's process go, and waits until it is the user's program.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::notify::Notify;
use super::options::Global;
use super::poststart;
use crate::child::{self, LOOK, Patience};
use crate::error::{Context, Error, Kind, Result};
use crate::id::Id;
use crate::link::{self, Message};
use crate::state::{Container, ProcessId, Progress, StateDir, Status};
use crate::step::{Step, reach};

/// What init waits for.
const GO: &[u8] = b"0";

/// Starts a created container and runs its poststart hooks. Comes back when the program has been executed, or with the reason why not.
pub fn start(global: &Global, id: &Id) -> Result<i32> {
    let directory = StateDir::new(&global.root);
    let mut container = directory.open_locked(id)?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => {
            return Err(Error::new(Kind::WrongStatus, "cannot start a container that has stopped"));
        }
        Status::Running | Status::Paused => {
            return Err(Error::new(Kind::WrongStatus, "cannot start an already running container"));
        }
        Status::Creating => {
            return Err(Error::new(
                Kind::WrongStatus,
                format!("container {:?} is still being created", id.as_str()),
            ));
        }
    }
    let what = || format!("start container {:?}", id.as_str());
    let notify = Notify::wanted(global, id).map_or(Ok(None), Notify::listen)?;
    let (init, pidfd) = process(&container).what(what)?;
    let answer = release(&container)?;
    // Others may act now: `delete --force` must not wait for a startContainer hook that hangs.
    container.unlock();
    let cgroup = container.record().cgroup.as_ref().map(|cgroup| cgroup.path.clone());
    let patience = Patience::new(container.record().start_hooks, cgroup);
    executed(&answer, (init, &pidfd), patience).what(what)?;
    if poststart::wanted(&container) {
        let container = directory.open_locked(id)?;
        if let Err(error) = poststart::run(&container) {
            return Err(super::delete::instead(container, error));
        }
    }
    if let Some(notify) = notify {
        notify.wait_ready(init.pid, Some(&pidfd))?;
    }
    Ok(0)
}

/// Whom it is about. Held, so that nobody else is taken for it.
fn process(container: &Container) -> Result<(ProcessId, OwnedFd)> {
    let init = container.record().init.ok_or_else(died)?;
    Ok((init, init.open()?.ok_or_else(died)?))
}

/// Lets init go on; gives the end of the FIFO where it says what goes wrong. If it has died, nobody has the FIFO open (ENXIO).
fn release(container: &Container) -> Result<OwnedFd> {
    let what = || format!("start container {:?}", container.id().as_str());
    let fifo = match container.open_fifo(OFlags::WRONLY) {
        Err(Errno::NXIO) => return Err(died().during(what())),
        opened => opened.what(what)?,
    };
    let answer = container.open_fifo(OFlags::RDONLY).what(what)?;
    rustix::io::write(&fifo, GO).what(what)?;
    reach(Step::Release)?;
    // ORDER: the word first: whoever dies between the two leaves a FIFO that nobody reads, which tells the same.
    container.remove_fifo()?;
    Ok(answer)
}

/// Waits until init has let go of the FIFO, by execve or by its end. Nothing is left in it if it was execve.
///
/// Who may trace init can open the FIFO too, keep it open, and take what is in it. So the process itself is looked at, and has its time.
fn executed(answer: &OwnedFd, (init, pidfd): (ProcessId, &OwnedFd), mut patience: Patience) -> Result<()> {
    let what = || "wait for the program to be executed";
    let look = Timespec::try_from(LOOK).ok();
    loop {
        let since = Instant::now();
        // A hang-up is told without being asked for; what can be read may be for init.
        let mut fds = [PollFd::new(answer, PollFlags::empty()), PollFd::new(pidfd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, look.as_ref())).what(what)?;
        let [hung_up, ended] = fds.map(|fd| !fd.revents().is_empty());
        if hung_up {
            return heard(answer, Ok(()));
        }
        match init.progress() {
            Progress::Executed => return Ok(()),
            Progress::Gone => return heard(answer, Err(died())),
            // It ended after the look.
            _ if ended => {}
            progress => {
                if let Err(error) = patience.urge([(init.pid, progress, pidfd)].into_iter(), since.elapsed())
                {
                    child::give_up(pidfd);
                    return Err(error);
                }
            }
        }
    }
}

/// What it has left in the FIFO; `silence`: what nothing means.
fn heard(answer: &OwnedFd, silence: Result<()>) -> Result<()> {
    let mut bytes = [0; GO.len() + link::MOST];
    let len = match rustix::io::read(answer, &mut bytes) {
        // Nothing, and somebody has it open.
        Err(Errno::AGAIN) => 0,
        read => read.what(|| "read why the program was not executed")?,
    };
    let left = &bytes[..len];
    match left.strip_prefix(GO).unwrap_or(left) {
        [] if left.is_empty() => silence,
        [] => Err(died()),
        failure => match Message::decode(failure, Vec::new(), None)? {
            Message::Failed(_, error) => Err(error),
            _ => Err(Error::new(Kind::Internal, "init said something unexpected")),
        },
    }
}

fn died() -> Error {
    Error::new(Kind::WrongStatus, "its process has died")
}
