//! `start`: lets the container's process go, and waits until it is the user's program.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::notify::Notify;
use super::options::Global;
use super::poststart;
use crate::error::{Context, Error, Kind, Result};
use crate::id::Id;
use crate::link::{self, Message};
use crate::state::{Container, StateDir, Status};
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
    let notify = Notify::wanted(global, id).map_or(Ok(None), Notify::listen)?;
    let answer = release(&container)?;
    // Others may act now: `delete --force` must not wait for a startContainer hook that hangs.
    container.unlock();
    executed(&answer).what(|| format!("start container {:?}", id.as_str()))?;
    if poststart::wanted(&container) {
        let container = directory.open_locked(id)?;
        if let Err(error) = poststart::run(&container) {
            return Err(super::delete::instead(container, error));
        }
    }
    if let (Some(notify), Some(init)) = (notify, container.record().init) {
        notify.wait_ready(init.pid, init.open()?.as_ref())?;
    }
    Ok(0)
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
fn executed(answer: &OwnedFd) -> Result<()> {
    let what = || "wait for the program to be executed";
    // A hang-up is told without being asked for; what can be read may be for init.
    let mut hung_up = [PollFd::new(answer, PollFlags::empty())];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut hung_up, None)).what(what)?;
    let mut bytes = [0; GO.len() + link::MOST];
    let len = rustix::io::read(answer, &mut bytes).what(what)?;
    let left = &bytes[..len];
    match left.strip_prefix(GO).unwrap_or(left) {
        [] if left.is_empty() => Ok(()),
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
