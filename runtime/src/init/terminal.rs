//! The container's pseudo-terminal: made in its own devpts, its end bound at /dev/console, the other end for the parent.
//!
//! CVE-2025-52565: no name of the terminal is ever resolved; its end comes from the multiplexer's descriptor (TIOCGPTPEER).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::OpenTreeFlags;

use super::landing::Landing;
use super::target::{self, Links, Shape};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::Task;
use crate::sys::mount::is_devpts;
use crate::sys::{process, terminal};

/// What is done about /dev/console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// The terminal is bound there: the root is a mount that was made for this container.
    Bind,
    /// Nothing: it is there already, or the directory is also others'.
    Leave,
}

/// Opens it, if the plan asks for one, as standard input, output and error; gives the parent's end.
pub fn open(task: &Task, root: &OwnedFd, at: Console) -> Result<Option<OwnedFd>> {
    let Some((rows, columns)) = task.process.terminal else { return Ok(None) };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let opened = |flags| {
        rustix::fs::openat2(root, c"dev/pts/ptmx", flags, Mode::empty(), resolve)
            .what(|| "open /dev/pts/ptmx in the container")
            .map_err(|error| error.cure("a terminal needs a devpts mounted at /dev/pts"))
    };
    // ORDER: looked at before it is opened: to open a device may be to use it.
    is_multiplexer(&opened(OFlags::PATH | OFlags::CLOEXEC)?)?;
    let ours = opened(flags)?;
    let theirs = terminal::peer(&ours).what(|| "open the terminal's other end")?;
    let stat = rustix::fs::fstat(&theirs).what(|| "look at the terminal")?;
    if !(136..144).contains(&rustix::fs::major(stat.st_rdev)) {
        return Err(no_multiplexer());
    }
    if (rows, columns) != (0, 0) {
        process::set_window_size(theirs.as_fd(), rows, columns).what(|| "set the terminal's size")?;
    }
    if at == Console::Bind {
        console(root, &theirs)?;
    }
    if (task.process.uid, task.process.gid) != (0, 0) {
        // The user must be able to open what it has as standard input again; the group stays that of the devpts (tty).
        rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(task.process.uid)), None)
            .what(|| "give the terminal to the user")?;
    }
    terminal::as_standard_streams(&theirs).what(|| "use the terminal as standard streams")?;
    Ok(Some(ours))
}

/// In a devpts, where nobody but the kernel makes nodes.
fn is_multiplexer(handle: &OwnedFd) -> Result<()> {
    let in_devpts = is_devpts(handle).what(|| "look at /dev/pts/ptmx in the container")?;
    if in_devpts && terminal::is_multiplexer_node(handle) { Ok(()) } else { Err(no_multiplexer()) }
}

fn no_multiplexer() -> Error {
    let what = "/dev/pts/ptmx in the container is not a pseudo-terminal multiplexer";
    Error::new(Kind::Denied, what).cure("a terminal needs a devpts mounted at /dev/pts")
}

/// Makes it the controlling terminal of this process's session.
pub fn take(task: &Task) -> Result<()> {
    if task.process.terminal.is_none() {
        return Ok(());
    }
    process::set_controlling_terminal(std::io::stdin().as_fd()).what(|| "take the terminal")
}

fn console(root: &OwnedFd, theirs: &OwnedFd) -> Result<()> {
    let place = target::open_or_make(root, Path::new("/dev/console"), Shape::File, Links::Refuse)?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(theirs, c"", flags).what(|| "clone the terminal's node")?;
    Landing::of(root, place, &tree)
        .and_then(|place| place.attach(&tree))
        .what(|| "bind the terminal at /dev/console")
}
