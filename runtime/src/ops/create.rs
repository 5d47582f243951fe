//! `create`: a container whose process waits for `start`.

use nix::sys::signal::SigSet;

use super::console::Terminal;
use super::launch::{self, Caller, StartedBy};
use super::options::{Create, Global};
use super::{rootless, sealed, streams};
use crate::error::{Context, Result};

/// Makes it and leaves.
pub fn create(global: &Global, options: &Create) -> Result<i32> {
    let what = || format!("create container {:?}", options.id.as_str());
    sealed::ensure().what(what)?;
    streams::protect().what(what)?;
    rootless::ensure(&options.launch).what(what)?;
    let signals = SigSet::thread_get_mask().what(|| "read the signal mask")?;
    let caller = Caller { start: StartedBy::Fifo, terminal: Terminal::Handed, signals };
    let mut launched = launch::launch(global, &options.id, &options.launch, caller).what(what)?;
    launch::send_pidfd(&launched.child, options.launch.pidfd_socket.as_deref())?;
    launched.child.keep();
    Ok(0)
}
