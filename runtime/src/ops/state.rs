//! `rt state`: prints what is known of a container. It changes nothing and takes no lock.

use super::options::Global;
use super::stdout;
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::state::StateDir;

/// Prints the state of runtime.md#state.
pub fn state(global: &Global, id: &Id) -> Result<i32> {
    let container = StateDir::new(&global.root).open(id)?;
    let status = container.status()?;
    stdout::print(&json(&container.record().report(status))?)?;
    Ok(0)
}

/// Indented by two, with a line end.
pub fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::new(Kind::Internal, format!("print as JSON: {error}")))?;
    text.push(b'\n');
    Ok(text)
}
