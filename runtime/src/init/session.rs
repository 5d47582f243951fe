//! A session and a keyring of the container's own.

use std::ffi::CString;

use nix::errno::Errno;

use crate::error::{Context, Result};
use crate::plan::Task;
use crate::sys::process;

/// KERNEL: KEY_USR_SEARCH: processes of the container with another user may search the keyring, as runc allows them.
const USER_SEARCH: u32 = 0x0008_0000;

/// setsid, and a session keyring unless the plan says that the caller's is kept.
pub fn new(task: &Task) -> Result<()> {
    lead()?;
    let Some(name) = &task.keyring else { return Ok(()) };
    let name = CString::new(name.as_str()).unwrap_or_default();
    let made = process::join_session_keyring(&name).and_then(|serial| {
        process::set_key_permission(serial, process::key_permission(serial)? | USER_SEARCH)
    });
    match made {
        // A kernel without keyrings has nothing to share; neither have those where a filter forbids the call.
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno).what(|| "make a session keyring"),
    }
}

/// Makes this process the leader of a session of its own.
pub fn lead() -> Result<()> {
    rustix::process::setsid().map(drop).what(|| "start a session")
}
