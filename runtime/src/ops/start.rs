//! `start`: lets the container's process go.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::options::Global;
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::id::Id;
use crate::state::{Container, StateDir, Status};

/// Starts a created container, then runs its poststart hooks.
pub fn start(global: &Global, id: &Id) -> Result<i32> {
    let container = StateDir::new(&global.root).open_locked(id)?;
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
    release(&container)?;
    if let Some(hooks) = container.record().hooks.as_ref().filter(|hooks| !hooks.poststart.is_empty()) {
        // SPEC: runtime.md#lifecycle: if a poststart hook fails, the container is stopped and deleted.
        let state = container.record().hook_state(Status::Running);
        hooks::shut_out_descriptors(3)?;
        if let Err(error) = hooks::run_all("poststart", &hooks.poststart, &state) {
            if let Err(second) = super::delete::remove(container) {
                tracing::warn!("delete the container after its poststart hook failed: {second}");
            }
            return Err(error);
        }
    }
    Ok(0)
}

/// Init waits at the FIFO; if it has died, nobody has the FIFO open for reading (ENXIO).
fn release(container: &Container) -> Result<()> {
    let path = container.fifo_path();
    let what = || format!("start container {:?}", container.id().as_str());
    let fifo =
        match rustix::fs::open(&path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NXIO) => {
                return Err(Error::new(Kind::WrongStatus, format!("{}: its process has died", what())));
            }
            opened => opened.what(what)?,
        };
    container.remove_fifo()?;
    rustix::io::write(&fifo, b"0").what(what).map(drop)
}
