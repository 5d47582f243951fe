//! `rt delete`: removes what a container holds, its processes first, its id last. What is gone already is no error, so that it
//! can be repeated, after a SIGKILL of `create` or of `delete` itself too.

use std::os::fd::AsFd;
use std::time::Duration;

use super::options::{Delete, Global};
use crate::error::{Context, Error, Kind, Result};
use crate::hooks;
use crate::state::{Container, StateDir, Status};
use crate::step::{Step, reach};
use crate::sys::pidfd;

/// How long a killed process may take. The kernel needs more than a moment only where it hangs in a device or in NFS.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes the container.
pub fn delete(global: &Global, options: &Delete) -> Result<i32> {
    let leftover = match StateDir::new(&global.root).open_leftover(&options.id) {
        Err(error) if error.kind() == Kind::NotFound && options.force => return Ok(0),
        leftover => leftover?,
    };
    let container = match leftover.load() {
        Ok(container) => container,
        // `create` was killed before it made anything.
        Err((leftover, error)) if error.kind() == Kind::NotFound => {
            leftover.remove()?;
            return if options.force { Ok(0) } else { Err(error) };
        }
        Err((leftover, error)) if options.force => {
            tracing::warn!("remove container \"{}\" without its processes and cgroup: {error}", options.id);
            return leftover.remove().map(|()| 0);
        }
        Err((_, error)) => return Err(error),
    };
    match container.status()? {
        Status::Stopped | Status::Created => {}
        _ if options.force => {}
        status => {
            let what = format!("cannot delete container {} that is not stopped: {status}", options.id);
            return Err(Error::new(Kind::WrongStatus, what).cure("`rt delete --force` kills it first"));
        }
    }
    remove(container)?;
    Ok(0)
}

/// Kills what is left of the container, and removes everything.
pub fn remove(container: Container) -> Result<()> {
    kill_all(&container)?;
    reach(Step::DeleteKill)?;
    remove_cgroup(&container)?;
    if let Some(mount) = &container.record().root_mount {
        crate::parent::shared_root::remove(mount)?;
    }
    reach(Step::DeleteCgroup)?;
    let record = container.record().clone();
    container.remove()?;
    reach(Step::DeleteState)?;
    run_poststop_hooks(&record);
    Ok(())
}

/// Removes a container whose start failed: it is not wanted any more. Gives the error that is to be told.
pub fn instead(container: Container, error: Error) -> Error {
    if let Err(second) = remove(container) {
        tracing::warn!("delete the container after its start failed: {second}");
    }
    error
}

/// Init first: with a PID namespace of its own all others die with it, and its end is told at once, while a cgroup tells of its
/// own only every 10 ms (KERNEL: CGROUP_FILE_NOTIFY_MIN_INTV). Who is left after that dies with the cgroup.
fn kill_all(container: &Container) -> Result<()> {
    let Some(init) = container.record().init.map(|init| init.open()).transpose()?.flatten() else {
        return Ok(());
    };
    let what = || format!("kill init of container \"{}\"", container.id());
    // A frozen process dies all the same: KERNEL(5.2), cgroup2's freezer.
    match pidfd::send_signal(init.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(errno) => return Err(errno).what(what),
    }
    pidfd::wait_exit(&init, PATIENCE).what(what)
}

fn remove_cgroup(container: &Container) -> Result<()> {
    match &container.record().cgroup {
        Some(record) => crate::parent::cgroup::remove(record, PATIENCE),
        None => Ok(()),
    }
}

/// SPEC: runtime.md#lifecycle, step 13: a poststop hook that fails is a warning, and the others run all the same.
fn run_poststop_hooks(record: &crate::state::Record) {
    let Some(all) = record.hooks.as_ref().map(|hooks| &hooks.poststop).filter(|all| !all.is_empty()) else {
        return;
    };
    let state = record.hook_state(Status::Stopped);
    if let Err(error) = hooks::shut_out_descriptors(3) {
        tracing::warn!("{error}");
    }
    for hook in all {
        if let Err(error) = hooks::run_all("poststop", std::slice::from_ref(hook), &state) {
            tracing::warn!("{error}");
        }
    }
}
