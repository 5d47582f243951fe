//! Loads the program of the device rules and attaches it to a cgroup. Other programs there, such as systemd's, are left alone:
//! a device may be used when all of them agree.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::plan::cgroup::DeviceProgram;
use crate::privilege::in_user_namespace;
use crate::sys::bpf;

/// By this name ours is known when an update replaces it.
const NAME: &std::ffi::CStr = c"rt_devices";

/// What may be attached already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing: the cgroup was just made.
    None,
    /// Perhaps ours, perhaps others'.
    Unknown,
}

/// Puts the program in force. No moment is without rules, nor with both the old and the new.
pub fn apply(cgroup: BorrowedFd<'_>, program: &DeviceProgram, before: Before) -> Result<()> {
    match attach(cgroup, program, before) {
        Ok(()) => Ok(()),
        Err((Errno::EPERM, _)) if in_user_namespace() => {
            tracing::info!(
                "device rules: left out, since in a user namespace no program can be loaded, and no device be made"
            );
            Ok(())
        }
        Err((errno, what)) => {
            let error = Error::os(errno as i32, what);
            Err(match errno {
                Errno::EPERM => error.cure(
                    "it needs CAP_BPF or CAP_SYS_ADMIN, and a cgroup above may forbid programs below it",
                ),
                Errno::EINVAL | Errno::ENOSYS => error.cure("it needs a kernel with CONFIG_CGROUP_BPF"),
                Errno::E2BIG => error.cure("there are too many device rules, or programs on the cgroup"),
                _ => error,
            })
        }
    }
}

fn attach(
    cgroup: BorrowedFd<'_>,
    program: &DeviceProgram,
    before: Before,
) -> Result<(), (Errno, &'static str)> {
    let ours = match before {
        Before::None => None,
        Before::Unknown => ours(cgroup).map_err(|errno| (errno, "look for an attached program"))?,
    };
    if program.allows_all() {
        return match ours {
            Some(old) => {
                bpf::detach_device_program(cgroup, old.as_fd()).map_err(|errno| (errno, "detach the program"))
            }
            None => Ok(()),
        };
    }
    let new = bpf::load_device_program(program.instructions(), NAME)
        .map_err(|errno| (errno, "load the program"))?;
    bpf::attach_device_program(cgroup, new.as_fd(), ours.as_ref().map(OwnedFd::as_fd))
        .map_err(|errno| (errno, "attach the program"))
}

fn ours(cgroup: BorrowedFd<'_>) -> nix::Result<Option<OwnedFd>> {
    for id in bpf::device_programs(cgroup)? {
        let program = match bpf::program_by_id(id) {
            Ok(program) => program,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if bpf::program_name(program.as_fd())? == NAME.to_bytes() {
            return Ok(Some(program));
        }
    }
    Ok(None)
}
