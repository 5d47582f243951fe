//! The hooks that run once the container's program has been executed, for `start` and for `run`.

use crate::error::Result;
use crate::hooks;
use crate::state::{Container, Status};

/// Whether there are any.
pub fn wanted(container: &Container) -> bool {
    container.record().hooks.as_ref().is_some_and(|hooks| !hooks.poststart.is_empty())
}

/// Runs them. SPEC: runtime.md#lifecycle: if one fails, the container is stopped and deleted; the caller does that.
pub fn run(container: &Container) -> Result<()> {
    let Some(hooks) = container.record().hooks.as_ref().filter(|_| wanted(container)) else { return Ok(()) };
    hooks::shut_out_descriptors(3)?;
    hooks::run_all("poststart", &hooks.poststart, &container.record().hook_state(Status::Running))
}
