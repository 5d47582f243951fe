//! Capabilities: what the process may do from execve on.
//!
//! ORDER: the bounding set is cut while CAP_SETPCAP is there, before the user changes. Without no_new_privs it takes CAP_SYS_ADMIN to
//! load a filter, so that is kept in force until then and dropped right after ([`super::seal`]).

use crate::error::{Context, Error, Result};
use crate::plan::Task;
use crate::plan::capabilities::SYS_ADMIN;
use crate::sys::process::{self, CapSets};

/// Cuts the bounding set.
pub fn bound(task: &Task) -> Result<()> {
    let keep = task.process.capabilities.bounding;
    for number in 0..64u8 {
        if keep >> number & 1 == 1 {
            continue;
        }
        match process::bounding_drop(number) {
            // The first number that the kernel does not know is the end of its list.
            Err(nix::errno::Errno::EINVAL) => break,
            done => done.what(|| format!("drop capability {number} from the bounding set"))?,
        }
    }
    Ok(())
}

/// Takes the other four sets, after the change of user.
pub fn take(task: &Task) -> Result<()> {
    let wanted = task.process.capabilities;
    let extra = if needs_admin(task) {
        SYS_ADMIN & process::capget().what(|| "read capabilities")?.permitted
    } else {
        0
    };
    process::capset(with(task, extra)).what(|| "set capabilities").map_err(|error| {
        error.cure("effective, inheritable and ambient capabilities must be among the permitted ones")
    })?;
    process::ambient_clear().what(|| "clear the ambient capabilities")?;
    for number in 0..64u8 {
        if wanted.ambient >> number & 1 == 1 {
            process::ambient_raise(number).map_err(|errno| {
                Error::os(errno as i32, format!("raise ambient capability {number}"))
                    .cure("it must be among the permitted and the inheritable ones")
            })?;
        }
    }
    Ok(())
}

/// The sets that the plan wants, and `extra` in force beside them.
fn with(task: &Task, extra: u64) -> CapSets {
    let wanted = task.process.capabilities;
    CapSets {
        effective: wanted.effective | extra,
        permitted: wanted.permitted | extra,
        inheritable: wanted.inheritable,
    }
}

/// Whether the filter can only be loaded by an administrator.
pub fn needs_admin(task: &Task) -> bool {
    task.seccomp.is_some()
        && !task.process.no_new_privileges
        && task.process.capabilities.effective & SYS_ADMIN == 0
}

/// Drops what was kept for loading the filter.
pub fn drop_admin(task: &Task) -> Result<()> {
    if needs_admin(task) {
        process::capset(with(task, 0)).what(|| "drop CAP_SYS_ADMIN").map_err(|error| {
            error.cure("the seccomp profile must allow capset, or noNewPrivileges be set")
        })?;
    }
    Ok(())
}
