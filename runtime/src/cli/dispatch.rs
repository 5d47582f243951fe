//! From the command line to the exit code: install the log, perform the operation, report its error once.

use std::ffi::OsString;

use super::{Command, Invocation, parse};
use crate::error::Result;
use crate::ops;
use crate::ops::options::Global;

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

fn perform(global: &Global, command: Command) -> Result<i32> {
    match command {
        Command::Print(text) => ops::print(text.as_bytes()).map(|()| 0),
        Command::Create(options) => apart(|| ops::create::create(global, &options)),
        Command::Run(options) => apart(|| ops::run::run(global, &options)),
        Command::Start(id) => apart(|| ops::start::start(global, &id)),
        Command::State(id) => apart(|| ops::state::state(global, &id)),
        Command::Kill(options) => apart(|| ops::kill::kill(global, &options)),
        Command::Delete(options) => apart(|| ops::delete::delete(global, &options)),
        Command::List(options) => apart(|| ops::list::list(global, options)),
        Command::Exec(options) => apart(|| ops::exec::exec(global, &options)),
        Command::Ps(options) => apart(|| ops::ps::ps(global, &options)),
        Command::Pause(id) => apart(|| ops::pause::pause(global, &id)),
        Command::Resume(id) => apart(|| ops::pause::resume(global, &id)),
        Command::Update(options) => apart(|| ops::update::update(global, &options)),
        Command::Events(options) => apart(|| ops::events::events(global, &options)),
        Command::Spec(options) => apart(|| ops::spec::spec(&options)),
        Command::Features => apart(ops::features::features),
        Command::Plan(options) => apart(|| ops::plan::plan(global, &options)),
    }
}

/// An operation in a frame of its own: one that holds the locals of all has 27 KB, and each page of a stack is a fault to the kernel.
#[inline(never)]
fn apart(operation: impl FnOnce() -> Result<i32>) -> Result<i32> {
    operation()
}
