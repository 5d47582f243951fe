//! A session and a keyring of the container's own.

use nix::errno::Errno;

use crate::error::{Context, Result};
use crate::plan::Task;
use crate::sys::process;

/// KERNEL: KEY_POS_ALL: those who have the keyring may do all with it, as its heirs do under any user; nobody else sees it.
const HOLDERS: u32 = 0x3f00_0000;

/// setsid, and a session keyring unless the plan says that the caller's is kept.
///
/// KERNEL: joining a keyring by its name takes one that somebody else has made, of any user of the user namespace. So it has no name.
pub fn new(task: &Task) -> Result<()> {
    lead()?;
    if !task.keyring {
        return Ok(());
    }
    match process::new_session_keyring().and_then(|serial| process::set_key_permission(serial, HOLDERS)) {
        // A kernel without keyrings has nothing to share; neither have those where a filter forbids the call.
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno).what(|| "make a session keyring"),
    }
}

/// Makes this process the leader of a session of its own.
pub fn lead() -> Result<()> {
    rustix::process::setsid().map(drop).what(|| "start a session")
}
