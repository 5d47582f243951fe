//! `plan`: what `create` would do, as JSON. Needs no root and touches nothing: the first thing to send with a report.

use super::console::Terminal;
use super::launch;
use super::options::{Global, Plan};
use crate::error::{Error, Kind, Result};

/// Prints it.
pub fn plan(global: &Global, options: &Plan) -> Result<i32> {
    let planned = launch::plan(global, &options.id, &options.launch, Terminal::Any)?;
    let mut text = serde_json::to_vec_pretty(&planned.plan)
        .map_err(|error| Error::new(Kind::Internal, format!("write the plan as JSON: {error}")))?;
    text.push(b'\n');
    super::print(&text)?;
    Ok(0)
}
