//! `rt pause` and `rt resume`: the cgroup's freezer. The status is seen from there, so nothing is stored.

use std::time::Duration;

use super::kill::{not_running, occupants};
use super::options::Global;
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::parent::occupants::Occupants;
use crate::state::{Container, StateDir, Status};

/// As runc. A process that hangs in the kernel can't be frozen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops all processes and waits until they stand.
pub fn pause(global: &Global, id: &Id) -> Result<i32> {
    let container = StateDir::new(&global.root).open_locked(id)?;
    match container.status()? {
        Status::Created | Status::Running => {
            freezer(&container)?.freeze(PATIENCE)?;
            Ok(0)
        }
        Status::Paused => Err(Error::new(Kind::WrongStatus, format!("container already paused: \"{id}\""))),
        Status::Creating | Status::Stopped => Err(not_running(&container)),
    }
}

/// Lets them go on.
pub fn resume(global: &Global, id: &Id) -> Result<i32> {
    let container = StateDir::new(&global.root).open_locked(id)?;
    match container.status()? {
        Status::Paused => {
            freezer(&container)?.thaw(PATIENCE)?;
            Ok(0)
        }
        _ => Err(Error::new(Kind::WrongStatus, format!("container not paused: \"{id}\""))),
    }
}

fn freezer(container: &Container) -> Result<Occupants> {
    occupants(container)?.ok_or_else(|| {
        let what = format!("freeze container \"{}\": it has no cgroup of its own", container.id());
        Error::unsupported(what)
    })
}
