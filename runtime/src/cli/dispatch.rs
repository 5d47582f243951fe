//! From the command line to the exit code: install the log, perform the operation, report its error once.

use std::ffi::OsString;

use super::{Command, Invocation, parse};
use crate::error::{Error, Result};
use crate::ops::options::Global;
use crate::ops::stdout;

/// Does what the command line (without the program's name) asks for, and gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> i32 {
    let Invocation { log, request } = parse(args);
    if let Err(error) = crate::log::install(&log) {
        crate::log::report(&error);
        return 1;
    }
    let (result, failure_code) = match request {
        Ok((global, command)) => {
            let failure_code = command.failure_code();
            (perform(&global, command), failure_code)
        }
        Err(error) => (Err(error), 1),
    };
    result.unwrap_or_else(|error| {
        crate::log::report(&error);
        failure_code
    })
}

fn perform(_global: &Global, command: Command) -> Result<i32> {
    match command {
        Command::Print(text) => stdout::print(text.as_bytes()).map(|()| 0),
        Command::Create(_) => Err(not_yet("create")),
        Command::Run(_) => Err(not_yet("run")),
        Command::Start(_) => Err(not_yet("start")),
        Command::State(_) => Err(not_yet("state")),
        Command::Kill(_) => Err(not_yet("kill")),
        Command::Delete(_) => Err(not_yet("delete")),
        Command::List(_) => Err(not_yet("list")),
        Command::Exec(_) => Err(not_yet("exec")),
        Command::Ps(_) => Err(not_yet("ps")),
        Command::Pause(_) => Err(not_yet("pause")),
        Command::Resume(_) => Err(not_yet("resume")),
        Command::Update(_) => Err(not_yet("update")),
        Command::Events(_) => Err(not_yet("events")),
        Command::Spec(_) => Err(not_yet("spec")),
        Command::Features => Err(not_yet("features")),
        Command::Plan(_) => Err(not_yet("plan")),
    }
}

fn not_yet(command: &str) -> Error {
    Error::unsupported(format!("rt {command} is not supported yet"))
}
